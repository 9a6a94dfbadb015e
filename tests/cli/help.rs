//! Help and version.

use insta::assert_snapshot;

use super::environment::TestEnvironment;

#[test]
fn version() {
    let ran = TestEnvironment::new().run(["--version"]);
    assert_eq!(ran.stdout, format!("aictl {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn without_a_command_help_is_shown() {
    let ran = TestEnvironment::new().run([""; 0]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("Usage: aictl"), "{ran}");
}

#[test]
fn short_help() {
    assert_snapshot!(TestEnvironment::new().run(["-h"]), @r#"
    status: 0
    ----- stdout
    See where an AI job's time goes; find faults of GPUs and nodes, and repair them

    Usage: aictl [OPTIONS] <COMMAND>

    Commands:
      profile      Record running processes through eBPF, then say where their time went
      report       Say what a recording shows: verdict, steps, where their time went, tops, stragglers
      timeline     Look at recordings in the terminal: a timeline to move, zoom and search in
      diagnose     Find faults of GPUs and nodes
      remediate    Repair what is wrong with this machine, or say what would be done
      preload      Bring models to this node's disk, page cache and GPU memory, and prove it
      submit       Put a job in a queue of Kueue, Volcano, kube-queue, Slurm or Ray
      queue        See and manage jobs of Kueue, Volcano, kube-queue, Slurm and Ray
      top          Watch GPUs: load, memory, power, faults, and whose they are
      doctor       Say what works here, and what to do about what does not
      completions  Print the lines that switch completion on in a shell
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Common options:
      -o, --output <FORMAT>  Print data as [possible values: table, wide, json, yaml, name]
      -q, --quiet            Print no status, progress or hints, only data and errors
      -v, --verbose...       Print more detail; twice for all of it
          --color <WHEN>     When to colour [possible values: auto, always, never]
          --ascii            Draw bars and marks in ASCII
          --config <FILE>    Configuration file [default: $XDG_CONFIG_HOME/aictl/config.yaml]

    Examples:
      sudo aictl profile --pid 41873 -d 10s     record a running process, then say why it is slow
      sudo aictl profile -- python train.py     the same from its first instruction on
      sudo aictl profile --pid 41873 --live     watch it while it is recorded
      aictl timeline run.pftrace                look at a recording: move, zoom, search
      aictl report run.pftrace                  read a recording again
      aictl report --diff before.pftrace after.pftrace
      sudo aictl diagnose --local               GPU and node faults of this machine
      sudo aictl remediate                      what would be done about them?
      aictl submit --gpus-per-node 8 train.sh   put a job in a queue
      aictl queue explain train                 why it waits, and when it may run
      aictl preload hf://org/model              bring a model to this node's disk
      aictl top                                 watch GPUs, and whose they are
      aictl doctor                              what works here, and what to do about the rest
    "#);
}

#[test]
fn long_help() {
    assert_snapshot!(TestEnvironment::new().run(["--help"]), @r#"
    status: 0
    ----- stdout
    See where an AI job's time goes; find faults of GPUs and nodes, and repair them

    Usage: aictl [OPTIONS] <COMMAND>

    Commands:
      profile      Record running processes through eBPF, then say where their time went
      report       Say what a recording shows: verdict, steps, where their time went, tops, stragglers
      timeline     Look at recordings in the terminal: a timeline to move, zoom and search in
      diagnose     Find faults of GPUs and nodes
      remediate    Repair what is wrong with this machine, or say what would be done
      preload      Bring models to this node's disk, page cache and GPU memory, and prove it
      submit       Put a job in a queue of Kueue, Volcano, kube-queue, Slurm or Ray
      queue        See and manage jobs of Kueue, Volcano, kube-queue, Slurm and Ray
      top          Watch GPUs: load, memory, power, faults, and whose they are
      doctor       Say what works here, and what to do about what does not
      completions  Print the lines that switch completion on in a shell
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Common options:
      -o, --output <FORMAT>
              Print data as

              Possible values:
              - table: For people
              - wide:  For people, with more rows and columns
              - json:  For programs
              - yaml:  For programs and people
              - name:  Just the name of what was found

      -q, --quiet
              Print no status, progress or hints, only data and errors

      -v, --verbose...
              Print more detail; twice for all of it

          --color <WHEN>
              When to colour

              Possible values:
              - auto:   On a terminal, unless NO_COLOR is set
              - always: Always
              - never:  Never

          --ascii
              Draw bars and marks in ASCII

          --config <FILE>
              Configuration file [default: $XDG_CONFIG_HOME/aictl/config.yaml]

    Cluster options:
      -n, --namespace <NAME>
              Namespace [default: the context's]

          --context <NAME>
              Context of the kubeconfig: which cluster, as whom

          --kubeconfig <FILE>
              Kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]

    Examples:
      sudo aictl profile --pid 41873 -d 10s     record a running process, then say why it is slow
      sudo aictl profile -- python train.py     the same from its first instruction on
      sudo aictl profile --pid 41873 --live     watch it while it is recorded
      aictl timeline run.pftrace                look at a recording: move, zoom, search
      aictl report run.pftrace                  read a recording again
      aictl report --diff before.pftrace after.pftrace
      sudo aictl diagnose --local               GPU and node faults of this machine
      sudo aictl remediate                      what would be done about them?
      aictl submit --gpus-per-node 8 train.sh   put a job in a queue
      aictl queue explain train                 why it waits, and when it may run
      aictl preload hf://org/model              bring a model to this node's disk
      aictl top                                 watch GPUs, and whose they are
      aictl doctor                              what works here, and what to do about the rest

    Exit codes:
      0    done, nothing wrong
      1    aictl failed
      2    usage
      3    what was looked for is wrong
      4    could not see: not permitted, or the data are missing
      130  interrupted

    Data goes to stdout, everything else to stderr. Settings come from flags, then the environment
    (AICTL_OUTPUT, AICTL_COLOR, AICTL_CONFIG, and those of the commands), then the configuration file:
    $XDG_CONFIG_HOME/aictl/config.yaml, or ~/.config/aictl/config.yaml.
    "#);
}

#[test]
fn help_of_profile() {
    assert_snapshot!(TestEnvironment::new().run(["profile", "-h"]), @r#"
    status: 0
    ----- stdout
    Record running processes through eBPF, then say where their time went

    Usage: aictl profile [OPTIONS] --pid <PID>...
           aictl profile [OPTIONS] -- <COMMAND>...
           aictl profile [OPTIONS] <TARGET>... | -l <LABELS>

    Arguments:
      [TARGET]...   Pods to record, on whatever nodes they run: NAME or pod/NAME, job/, jobset/,
                    pytorchjob/, trainjob/, rayjob/NAME
      [COMMAND]...  Command to start and record

    Options:
      -p, --pid <PID>                 Process to record; again for more, such as the ranks of one job
      -d, --duration <TIME>           End after this long: 10s, 1m30s, 500ms [default: at Ctrl-C]
      -w, --write <FILE>              File to write; .json and .json.gz in Chrome's format, others in
                                      Perfetto's, - for stdout [default: aictl-<PID or
                                      COMMAND>-<TIME>.pftrace]
          --layers <LIST>             What to record: all, or some of sched, syscall, io, python, torch,
                                      cuda, nccl [default: all]
          --max-overhead <SHARE>      How much the processes may be slowed down; probes are thinned to
                                      hold it [default: 2%]
          --python-hz <HZ>            Python stacks a second and CPU [default: 99]
          --syscall-threshold <TIME>  Record system calls one by one from this length on; shorter ones
                                      are counted [default: 100us]
          --no-report                 Only record
          --live                      Watch it in the terminal while it is recorded; q ends both, and
                                      the report follows
          --theme <THEME>             Colours for which background; safe for the colour-blind, all of
                                      them [default: auto] [possible values: auto, dark, light, mono]
          --no-mouse                  Leave the mouse to the terminal, so that it selects text
      -h, --help                      Print help (see more with '--help')

    Pods:
      -l, --selector <LABELS>  Pods with these labels: app=train,role!=launcher
      -c, --container <NAME>   Only this container of each pod
          --process <REGEX>    Only processes whose command line matches

    Common options:
      -o, --output <FORMAT>  Print data as [possible values: table, wide, json, yaml, name]
      -q, --quiet            Print no status, progress or hints, only data and errors
      -v, --verbose...       Print more detail; twice for all of it
          --color <WHEN>     When to colour [possible values: auto, always, never]
          --ascii            Draw bars and marks in ASCII
          --config <FILE>    Configuration file [default: $XDG_CONFIG_HOME/aictl/config.yaml]

    Examples:
      sudo aictl profile --pid 41873 -d 10s
      sudo aictl profile -d 30s -w run.pftrace -- python train.py --epochs 1
      sudo aictl profile --pid 41873 --pid 41874 -d 10s          the ranks of one job: who is late?
      sudo aictl profile --pid 41873 --live                      watch it while it is recorded
      sudo aictl profile --pid 41873 --layers sched,python -d 5s
      aictl profile pod/train-0 -n ml -d 10s                     a pod, from a laptop
      aictl profile job/train --live                             all ranks of a job, on all their nodes
      aictl profile -l app=serve -c engine --process 'python.*worker' -d 10s
      sudo aictl profile --pid 41873 -d 10s -o json | jq .verdict
    "#);
}

#[test]
fn help_of_report() {
    assert_snapshot!(TestEnvironment::new().run(["report", "-h"]), @r#"
    status: 0
    ----- stdout
    Say what a recording shows: verdict, steps, where their time went, tops, stragglers

    Usage: aictl report [OPTIONS] <FILE>
           aictl report [OPTIONS] --diff <BEFORE> <AFTER>

    Arguments:
      [FILE]  Recording: of aictl, another Perfetto TrackEvent trace, or Chrome JSON as PyTorch's
              profiler writes it, gzip or plain; - for stdin

    Options:
          --diff <BEFORE> <AFTER>  Say what changed between two recordings
      -h, --help                   Print help (see more with '--help')

    Common options:
      -o, --output <FORMAT>  Print data as [possible values: table, wide, json, yaml, name]
      -q, --quiet            Print no status, progress or hints, only data and errors
      -v, --verbose...       Print more detail; twice for all of it
          --color <WHEN>     When to colour [possible values: auto, always, never]
          --ascii            Draw bars and marks in ASCII
          --config <FILE>    Configuration file [default: $XDG_CONFIG_HOME/aictl/config.yaml]

    Examples:
      aictl report run.pftrace
      aictl report trace.json.gz -o wide                 what PyTorch's profiler wrote
      aictl report run.pftrace -o json | jq .breakdown
      aictl report --diff before.pftrace after.pftrace
    "#);
}

#[test]
fn help_of_completions() {
    assert_snapshot!(TestEnvironment::new().run(["completions", "-h"]), @r#"
    status: 0
    ----- stdout
    Print the lines that switch completion on in a shell

    Usage: aictl completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>  The shell [possible values: bash, elvish, fish, powershell, zsh]

    Options:
      -h, --help  Print help (see more with '--help')

    Common options:
      -o, --output <FORMAT>  Print data as [possible values: table, wide, json, yaml, name]
      -q, --quiet            Print no status, progress or hints, only data and errors
      -v, --verbose...       Print more detail; twice for all of it
          --color <WHEN>     When to colour [possible values: auto, always, never]
          --ascii            Draw bars and marks in ASCII
          --config <FILE>    Configuration file [default: $XDG_CONFIG_HOME/aictl/config.yaml]

    Examples:
      aictl completions bash > /etc/bash_completion.d/aictl
      aictl completions zsh > "${fpath[1]}/_aictl"
      aictl completions fish > ~/.config/fish/completions/aictl.fish

    The lines ask aictl itself, so they stay right when aictl is updated.
    "#);
}

/// By processor time, which other tests beside this one do not make longer; once is enough.
#[test]
#[allow(clippy::zombie_processes, reason = "wait4 is called for its resource usage")]
fn start_up_is_quick() {
    let environment = TestEnvironment::new();
    let quick = (0..100).any(|_| {
        let child = environment.command().arg("--version").stdout(std::process::Stdio::null()).spawn().unwrap();
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the child is ours and not yet waited for; the place is valid for writing.
        let usage = unsafe {
            libc::wait4(child.id() as libc::pid_t, std::ptr::null_mut(), 0, usage.as_mut_ptr());
            usage.assume_init()
        };
        let spent =
            [usage.ru_utime, usage.ru_stime].iter().map(|time| time.tv_sec * 1_000_000 + time.tv_usec).sum::<i64>();
        spent < 10_000
    });
    assert!(quick, "--version never took less than 10 ms of a processor");
}
