//! The environment variables that aictl reads, beside NO_COLOR, COLUMNS and the locale.

/// Output format, as `-o`.
pub const OUTPUT: &str = "AICTL_OUTPUT";
/// When to colour, as `--color`.
pub const COLOR: &str = "AICTL_COLOR";
/// Configuration file, as `--config`.
pub const CONFIG: &str = "AICTL_CONFIG";
/// Length of a capture, as `--duration`.
pub const DURATION: &str = "AICTL_DURATION";
/// Layers to capture, as `--layers`.
pub const LAYERS: &str = "AICTL_LAYERS";
/// Overhead budget, as `--max-overhead`.
pub const MAX_OVERHEAD: &str = "AICTL_MAX_OVERHEAD";
/// Python sampling rate, as `--python-hz`.
pub const PYTHON_HZ: &str = "AICTL_PYTHON_HZ";
/// Shortest system call that is recorded one by one, as `--syscall-threshold`.
pub const SYSCALL_THRESHOLD: &str = "AICTL_SYSCALL_THRESHOLD";
/// Colours of the viewer, as `--theme`.
pub const THEME: &str = "AICTL_THEME";
/// Namespace, as `--namespace`.
pub const NAMESPACE: &str = "AICTL_NAMESPACE";
/// Context of the kubeconfig, as `--context`.
pub const CONTEXT: &str = "AICTL_CONTEXT";
/// Kubeconfig, as `--kubeconfig`; KUBECONFIG itself is honoured too.
pub const KUBECONFIG: &str = "AICTL_KUBECONFIG";
/// Name of this machine's node, as `--node`; NODE_NAME is taken, too.
pub const NODE: &str = "AICTL_NODE";
/// Name of this machine's node, as Kubernetes' manifests usually call it.
pub const NODE_NAME: &str = "NODE_NAME";
/// Directory that serves as HF_HOME, as `--to` of `aictl preload`.
pub const PRELOAD_TO: &str = "AICTL_PRELOAD_TO";
/// Engine or target of jobs, as `--to`.
pub const TO: &str = "AICTL_TO";
/// Queue of jobs, as `--queue`.
pub const QUEUE: &str = "AICTL_QUEUE";
/// Container image of jobs, as `--image`.
pub const IMAGE: &str = "AICTL_IMAGE";
/// Priority of jobs, as `--priority`.
pub const PRIORITY: &str = "AICTL_PRIORITY";
/// Directory of the records of processes that hold models in memory.
pub const PRELOAD_PINS: &str = "AICTL_PRELOAD_PINS";
/// Where `aictl diagnose --ask` asks: "https://llm.example.org/v1".
pub const ASK_URL: &str = "AICTL_ASK_URL";
/// Model that is asked.
pub const ASK_MODEL: &str = "AICTL_ASK_MODEL";
/// Key for it.
pub const ASK_KEY: &str = "AICTL_ASK_KEY";
/// File that holds the key.
pub const ASK_KEY_FILE: &str = "AICTL_ASK_KEY_FILE";
/// Longest time that it may take to answer.
pub const ASK_TIMEOUT: &str = "AICTL_ASK_TIMEOUT";
/// Secret that nodes share which give models to each other.
pub const PEER_TOKEN: &str = "AICTL_PEER_TOKEN";
/// Container image of `aictl preload --nodes`, as `--image`.
pub const PRELOAD_IMAGE: &str = "AICTL_PRELOAD_IMAGE";
/// Image of the agent that profiles pods, as `--agent-image`.
pub const AGENT_IMAGE: &str = "AICTL_AGENT_IMAGE";
/// Namespace of that agent, as `--agent-namespace`.
pub const AGENT_NAMESPACE: &str = "AICTL_AGENT_NAMESPACE";
