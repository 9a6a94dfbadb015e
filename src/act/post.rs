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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A server that gives these answers, one a connection, and counts them.
    fn server(answers: &'static [&'static str]) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 8192]);
                let _ = write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        (address, asked)
    }

    fn posted(scheme: &str, answers: &'static [&'static str], ms: u64) -> (Result<(), String>, usize) {
        let (address, asked) = server(answers);
        let posted = post(&format!("{scheme}://{address}/"), Some("secret"), "{}", Duration::from_millis(ms));
        (posted, asked.load(Ordering::SeqCst))
    }

    #[test]
    fn a_busy_server_is_asked_again_and_one_that_says_no_is_not() {
        assert_eq!(posted("http", &["503 Busy", "429 Slow", "204 Fine"], 20_000), (Ok(()), 3));
        let (refused, asked) = posted("http", &["401 No", "200 Fine"], 20_000);
        assert!(refused.unwrap_err().contains("401") && asked == 1);
        // A redirect would hand the token to another.
        assert!(posted("http", &["302 There", "200 Fine"], 5_000).0.is_err());
    }

    #[test]
    fn what_is_no_tls_is_an_error_within_the_time() {
        let since = Instant::now();
        assert!(posted("https", &["200 Fine", "200 Fine", "200 Fine", "200 Fine"], 600).0.is_err());
        assert!(since.elapsed() < Duration::from_secs(60));
    }
}
