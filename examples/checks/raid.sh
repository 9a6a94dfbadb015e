#!/bin/sh
# An array's disks are shown as [UU]; one that is missing is a "_".
[ -r /proc/mdstat ] || { echo "no arrays"; exit 0; }
grep -q '^md' /proc/mdstat || { echo "no arrays"; exit 0; }
broken=$(awk '/^md/ {name = $1} /\[[U_]*_[U_]*\]/ {print "device=/dev/" name, $NF}' /proc/mdstat)
[ -z "$broken" ] && { echo "all arrays are whole"; exit 0; }
echo "$broken"
exit 1
