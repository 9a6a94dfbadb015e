#!/bin/sh
command -v smartctl >/dev/null || { echo "smartctl is not installed"; exit 0; }
bad=0 seen=0
for disk in /sys/block/sd* /sys/block/nvme*n1; do
    [ -e "$disk" ] || continue
    name=/dev/${disk##*/}
    smartctl -H "$name" >/dev/null 2>&1
    status=$?
    # Bits 0 to 2: it could not be asked; bit 3: the disk fails its own test.
    [ $((status & 7)) -ne 0 ] && continue
    seen=$((seen + 1))
    [ $((status & 8)) -ne 0 ] && { echo "device=$name fails its health test"; bad=1; }
done
[ "$bad" = 1 ] && exit 1
[ "$seen" = 0 ] && { echo "no disk could be asked"; exit 2; }
echo "$seen disks are well"
