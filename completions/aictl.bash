# bash completion for aictl
source <(COMPLETE=bash aictl)
