//! What the clouds' servers ask for in `Retry-After`, which the object_store crate does not tell: a
//! client that looks at the answers on their way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

use super::web::retry_after;

/// Until when the server wants rest.
#[derive(Debug, Clone, Default)]
pub struct Heed(Arc<Mutex<Option<Instant>>>);

impl Heed {
    /// How long it still wants rest, if it does.
    pub fn rest(&self) -> Option<Duration> {
        let until = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        until.checked_duration_since(Instant::now())
    }

    fn hear(&self, answer: &HttpResponse) {
        if !matches!(answer.status().as_u16(), 429 | 500 | 503) {
            return;
        }
        let asked = answer.headers().get("retry-after").and_then(|value| retry_after(value.to_str().ok()?));
        if let Some(wait) = asked {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + wait);
        }
    }
}

impl HttpConnector for Heed {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Heeding { inner, heed: self.clone() }))
    }
}

#[derive(Debug)]
struct Heeding {
    inner: HttpClient,
    heed: Heed,
}

#[async_trait::async_trait]
impl HttpService for Heeding {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.inner.execute(request).await?;
        self.heed.hear(&answer);
        Ok(answer)
    }
}
