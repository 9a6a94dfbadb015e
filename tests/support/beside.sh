#!/bin/sh
# Runs the text beside it, NAME.sh for a link NAME to this file: tests write and edit that, never what is run.
. "$0.sh"
