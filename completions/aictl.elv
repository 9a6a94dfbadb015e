# elvish completion for aictl
eval (E:COMPLETE=elvish aictl | slurp)
