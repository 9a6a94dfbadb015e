//! An interface like OpenAI's: one question by POST /chat/completions, one answer.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::tls::{RootCerts, TlsConfig};

use crate::fault::ask::SYSTEM;

/// An answer is some hundred words; what is longer than this is none.
const LONGEST: u64 = 1 << 20;

/// Where to ask.
pub struct Endpoint {
    url: String,
    key: Option<String>,
    timeout: Duration,
}

/// Without the key.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What is sent. No settings of the model's are: servers disagree on which there are.
pub fn request(model: &str, question: &str) -> Value {
    json!({
        "model": model,
        "stream": false,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}],
    })
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

impl Endpoint {
    /// An interface by its address, with "/chat/completions" or without.
    ///
    /// # Errors
    /// Why it can't be one.
    pub fn new(url: &str, key: Option<&str>, timeout: Duration) -> Result<Endpoint, String> {
        let parsed = url::Url::parse(url.trim()).map_err(|error| format!("the URL is none: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err("the URL is neither https nor http".to_owned());
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("the URL holds a password; give the key by AICTL_ASK_KEY_FILE".to_owned());
        }
        let url = parsed.as_str().trim_end_matches('/');
        let url = if url.ends_with("/chat/completions") { url.to_owned() } else { format!("{url}/chat/completions") };
        let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        if key.as_ref().is_some_and(|key| !key.bytes().all(|b| b.is_ascii_graphic())) {
            return Err("the key has spaces or characters that no key has".to_owned());
        }
        Ok(Endpoint { url, key, timeout })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks once. Nothing is tried again: a human waits, and may ask again.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn ask(&self, request: &Value) -> Result<String, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(self.timeout.max(Duration::from_millis(1))))
            .http_status_as_error(false)
            // Another place would get the findings and the key.
            .max_redirects(0)
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build()
            .into();
        let mut post = agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            post = post.header("authorization", format!("Bearer {key}"));
        }
        let why = |error: ureq::Error| match error {
            ureq::Error::Timeout(_) => format!("no answer within {:.0} s", self.timeout.as_secs_f64()),
            error => error.to_string(),
        };
        let mut answer = post.send(request.to_string()).map_err(why)?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(LONGEST).read_to_string().map_err(why)?;
        if !(200..=299).contains(&status) {
            return Err(format!("{} answered {status}{}", self.url, self.complaint(&text)));
        }
        let read: Answer = serde_json::from_str(&text)
            .map_err(|error| format!("{} gave no answer that can be read: {error}", self.url))?;
        let said = read.choices.into_iter().next().and_then(|choice| choice.message.content);
        let said = said.map(|said| spoken(&said).to_owned()).filter(|said| !said.is_empty());
        said.ok_or_else(|| format!("{} gave an empty answer", self.url))
    }

    /// What a server says of its refusal; some say the key again.
    fn complaint(&self, text: &str) -> String {
        let json: Option<Value> = serde_json::from_str(text).ok();
        let said = json.as_ref().and_then(|json| {
            let message = json.pointer("/error/message").or_else(|| json.get("message"))?;
            message.as_str()
        });
        let mut said: String = said.unwrap_or_default().chars().take(200).collect();
        if let Some(key) = &self.key {
            said = said.replace(key.as_str(), "(the key)");
        }
        if said.is_empty() { said } else { format!(": {said}") }
    }
}

/// The answer without what a model thought aloud before it.
fn spoken(said: &str) -> &str {
    let said = said.trim();
    match said.strip_prefix("<think>").and_then(|rest| rest.split_once("</think>")) {
        Some((_, spoken)) => spoken.trim(),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_and_without_its_end() {
        let url = |url: &str| Endpoint::new(url, None, Duration::ZERO).map(|endpoint| endpoint.url);
        assert_eq!(url("https://h/v1/").unwrap(), "https://h/v1/chat/completions");
        assert_eq!(url("http://h:8000/v1/chat/completions").unwrap(), "http://h:8000/v1/chat/completions");
        for wrong in ["", "h/v1", "ftp://h", "https://a:b@h/v1"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
        assert!(Endpoint::new("https://h", Some("a\nb"), Duration::ZERO).is_err());
    }

    #[test]
    fn thoughts_are_no_answer() {
        assert_eq!(spoken("<think>hm\nhm</think>\n\nThe riser."), "The riser.");
        assert_eq!(spoken(" plain "), "plain");
    }
}
