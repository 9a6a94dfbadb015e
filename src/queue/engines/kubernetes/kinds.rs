//! The kinds of objects that are jobs: where they say what, and which pods are theirs.

/// A kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobKind {
    /// API group.
    pub group: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// In ids, as `aictl` and people write it.
    pub short: &'static str,
    /// Label on its pods that has its name.
    pub name_label: &'static str,
    /// Label or annotation on its pods that has the rank or index.
    pub rank_label: &'static str,
    /// JSON pointer of the switch that keeps it from starting.
    pub suspend: Option<&'static str>,
}

/// `batch/v1` Job.
pub const JOB: JobKind = JobKind {
    group: "batch",
    kind: "Job",
    short: "job",
    name_label: "batch.kubernetes.io/job-name",
    rank_label: "batch.kubernetes.io/job-completion-index",
    suspend: Some("/spec/suspend"),
};
/// JobSet.
pub const JOBSET: JobKind = JobKind {
    group: "jobset.x-k8s.io",
    kind: "JobSet",
    short: "jobset",
    name_label: "jobset.sigs.k8s.io/jobset-name",
    rank_label: "batch.kubernetes.io/job-completion-index",
    suspend: Some("/spec/suspend"),
};
/// PyTorchJob.
pub const PYTORCHJOB: JobKind = kubeflow("PyTorchJob", "pytorchjob");
/// MPIJob.
pub const MPIJOB: JobKind = kubeflow("MPIJob", "mpijob");
/// TrainJob; its pods are a JobSet's of the same name.
pub const TRAINJOB: JobKind = JobKind {
    group: "trainer.kubeflow.org",
    kind: "TrainJob",
    short: "trainjob",
    name_label: "jobset.sigs.k8s.io/jobset-name",
    rank_label: "batch.kubernetes.io/job-completion-index",
    suspend: Some("/spec/suspend"),
};
/// RayJob.
pub const RAYJOB: JobKind = JobKind {
    group: "ray.io",
    kind: "RayJob",
    short: "rayjob",
    name_label: "ray.io/originated-from-cr-name",
    rank_label: "ray.io/node-type",
    suspend: Some("/spec/suspend"),
};
/// Volcano's Job.
pub const VCJOB: JobKind = JobKind {
    group: "batch.volcano.sh",
    kind: "Job",
    short: "vcjob",
    name_label: "volcano.sh/job-name",
    rank_label: "volcano.sh/task-index",
    suspend: None,
};

const fn kubeflow(kind: &'static str, short: &'static str) -> JobKind {
    JobKind {
        group: "kubeflow.org",
        kind,
        short,
        name_label: "training.kubeflow.org/job-name",
        rank_label: "training.kubeflow.org/replica-index",
        suspend: Some("/spec/runPolicy/suspend"),
    }
}

/// All of them.
pub const ALL: [JobKind; 14] = [
    JOB,
    JOBSET,
    PYTORCHJOB,
    MPIJOB,
    kubeflow("TFJob", "tfjob"),
    kubeflow("JAXJob", "jaxjob"),
    kubeflow("XGBoostJob", "xgboostjob"),
    kubeflow("PaddleJob", "paddlejob"),
    TRAINJOB,
    RAYJOB,
    JobKind {
        group: "ray.io",
        kind: "RayCluster",
        short: "raycluster",
        name_label: "ray.io/cluster",
        rank_label: "ray.io/node-type",
        suspend: Some("/spec/suspend"),
    },
    VCJOB,
    JobKind {
        group: "sparkoperator.k8s.io",
        kind: "SparkApplication",
        short: "sparkapplication",
        name_label: "spark-app-name",
        rank_label: "spark-exec-id",
        suspend: Some("/spec/suspend"),
    },
    JobKind {
        group: "flink.apache.org",
        kind: "FlinkDeployment",
        short: "flinkdeployment",
        name_label: "app",
        rank_label: "component",
        suspend: None,
    },
];

/// By group and kind.
pub fn of(group: &str, kind: &str) -> Option<JobKind> {
    ALL.into_iter().find(|known| known.group == group && known.kind == kind)
}

/// By its short name.
pub fn by_short(short: &str) -> Option<JobKind> {
    ALL.into_iter().find(|known| known.short.eq_ignore_ascii_case(short))
}

/// A job's id: `NAMESPACE/KIND/NAME`.
pub fn id(namespace: &str, short: &str, name: &str) -> String {
    format!("{namespace}/{short}/{name}")
}

/// The parts of an id.
pub fn parts(id: &str) -> Option<(&str, JobKind, &str)> {
    let mut parts = id.splitn(3, '/');
    let (namespace, short, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some((namespace, by_short(short)?, name))
}
