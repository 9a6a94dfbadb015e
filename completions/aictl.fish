# fish completion for aictl
COMPLETE=fish aictl | source
