//! Examples in the help of each subcommand.

pub const LIST: &str = "\
Examples:
  aictl queue list --mine                    my jobs, wherever they are
  aictl queue list --on slurm --state pending,held
  aictl queue list --queue research -w       and again whatever changes
  aictl queue list -n team -l app=train      of one namespace, with a label
  aictl queue list -o json | jq '.[] | select(.state == \"failed\") | .name'";

pub const EXPLAIN: &str = "\
Examples:
  aictl queue explain train                  why does it wait, and when will it run?
  aictl queue explain slurm:1234
  aictl queue explain train -o json | jq .eta.p90_s";

pub const WAIT: &str = "\
Examples:
  aictl queue wait train                     until it is over; exit code 3 if it failed
  aictl queue wait train eval --timeout 2h
  aictl queue wait train --for running && aictl queue logs train -f
  aictl queue wait slurm:1234 --exit-code    all of an array; end as the job ends";

pub const LOGS: &str = "\
Examples:
  aictl queue logs train -f                  all ranks, until it is over
  aictl queue logs train --rank 3 --tail 50
  aictl queue logs slurm:1234_7              one job of an array
  aictl queue logs train -o json | jq -r 'select(.rank == 0).text'";

pub const EXEC: &str = "\
Examples:
  aictl queue exec train -- nvidia-smi
  aictl queue exec train --rank 3 -- ps aux
  aictl queue exec train -- bash             a shell beside rank 0";

pub const CANCEL: &str = "\
Examples:
  aictl queue cancel train                   and see that it ends
  aictl queue cancel slurm:1234 slurm:1240_3
  aictl queue cancel train --dry-run         which job would that be?";

pub const HOLD: &str = "\
Examples:
  aictl queue hold train                     until `aictl queue release train`
  aictl queue hold slurm:1234 slurm:1235
  aictl queue hold train --dry-run           which job would that be?";

pub const REQUEUE: &str = "\
Examples:
  aictl queue requeue train                  stop it, and let it wait for its turn again
  aictl queue requeue slurm:1234 --dry-run   which job would that be?";

pub const PRIORITY: &str = "\
Examples:
  aictl queue priority train high            a class of Kubernetes or Kueue
  aictl queue priority slurm:1234 5000       Slurm counts: larger is first
  aictl queue priority train high --dry-run";

pub const QUOTA: &str = "\
Examples:
  aictl queue quota                          what is used, free and asked for, everywhere
  aictl queue quota research
  aictl queue quota --on slurm -o json | jq '.[] | select(.resource == \"nvidia.com/gpu\")'";
