//! Who runs aictl, for engines that have users only by name.

use crate::queue::QueueError;

/// The name of the user of this process.
pub(super) async fn local() -> Result<String, QueueError> {
    // `id` asks whatever directory the machine has; the environment may be another user's.
    let output = tokio::process::Command::new("id").arg("-un").output().await;
    let name = output.ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    name.filter(|name| !name.is_empty()).ok_or_else(|| QueueError::Unreachable {
        what: "cannot tell who we are".to_owned(),
        message: "`id -un` gives no name".to_owned(),
        passing: false,
    })
}
