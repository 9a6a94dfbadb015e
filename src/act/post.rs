//! Sends an event to a webhook, with retries up to a deadline.

use std::time::{Duration, Instant};

use ureq::tls::{RootCerts, TlsConfig};

/// Between two tries, at first; each next pause is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// Posts a CloudEvent.
///
/// # Errors
/// If nobody took it in time. An answer that says that it never will be taken is not tried again.
pub fn post(url: &str, token: Option<&str>, body: &str, timeout: Duration) -> Result<(), String> {
    let until = Instant::now() + timeout;
    let mut pause = PAUSE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let (error, again) = match once(url, token, body, left.min(Duration::from_secs(10))) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if !again || Instant::now() + pause >= until {
            return Err(error);
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
}

/// One try; an error says whether another makes sense.
fn once(url: &str, token: Option<&str>, body: &str, timeout: Duration) -> Result<(), (String, bool)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(timeout.max(Duration::from_millis(1))))
        .http_status_as_error(false)
        .max_redirects(0)
        // A site's own authority is known to the machine, not to us.
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .build()
        .into();
    let mut request = agent.post(url).header("content-type", "application/cloudevents+json; charset=utf-8");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    match request.send(body) {
        Ok(answer) => match answer.status().as_u16() {
            200..=299 => Ok(()),
            status => Err((format!("the answer was {status}"), status == 429 || status >= 500)),
        },
        Err(error) => Err((error.to_string(), true)),
    }
}
