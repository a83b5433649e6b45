//! One access token for everybody: asked for by one caller at a time, kept until a minute before its
//! end, dropped when Google refuses it.
//!
//! yup-oauth2 alone would send a request per caller, and would keep the answer of an outage as if it were
//! a token; so its cache is passed by, and nothing but a whole token is believed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use google_sheets4::common::GetToken;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Instant, timeout};
use yup_oauth2::authenticator::Authenticator;
use yup_oauth2::{CustomHyperClientBuilder, ServiceAccountAuthenticator, ServiceAccountKey};

use super::api::Connector;

/// How long the token endpoint may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a token lasts: Google's own number. Counted on the monotonic clock, for the wall clock may jump.
const LASTS: Duration = Duration::from_secs(3_599);

/// A token is renewed this long before its end.
const EARLY: Duration = Duration::from_secs(60);

/// After a failure nobody asks again for this long: everybody waiting gets the same answer.
const REST: Duration = Duration::from_secs(1);

/// The one scope that is needed.
const SCOPE: &str = "https://www.googleapis.com/auth/spreadsheets";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum NoToken {
    /// Google refuses the key: a person must act.
    #[error("refused")]
    Refused(String),
    /// The endpoint cannot be reached or makes no sense: later.
    #[error("unavailable")]
    Unavailable,
}

/// Where tokens come from. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tokens(Arc<Source>);

struct Source {
    key: ServiceAccountKey,
    connector: Connector,
    authenticator: OnceCell<Authenticator<Connector>>,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    token: Option<(String, Instant)>,
    failed: Option<(NoToken, Instant)>,
}

impl Tokens {
    pub(super) fn new(key: ServiceAccountKey, connector: Connector) -> Self {
        Self(Arc::new(Source { key, connector, authenticator: OnceCell::new(), current: Mutex::default() }))
    }

    /// The address that the sheet must be shared with.
    pub(super) fn account(&self) -> &str {
        &self.0.key.client_email
    }

    /// Google has refused the token: the next caller gets a fresh one.
    pub(super) async fn drop_current(&self) {
        self.0.current.lock().await.token = None;
    }

    async fn get(&self) -> Result<String, NoToken> {
        let mut current = self.0.current.lock().await;
        let now = Instant::now();
        if let Some((token, _)) = current.token.as_ref().filter(|(_, ends)| *ends > now) {
            return Ok(token.clone());
        }
        if let Some((failure, _)) = current.failed.as_ref().filter(|(_, until)| *until > now) {
            return Err(failure.clone());
        }
        match self.ask().await {
            Ok((token, lasts)) => {
                *current =
                    Current { token: Some((token.clone(), now + lasts.saturating_sub(EARLY))), failed: None };
                Ok(token)
            }
            Err(failure) => {
                current.failed = Some((failure.clone(), Instant::now() + REST));
                Err(failure)
            }
        }
    }

    async fn ask(&self) -> Result<(String, Duration), NoToken> {
        let source = &self.0;
        let make = || async {
            let client: Client<Connector, String> =
                Client::builder(TokioExecutor::new()).build(source.connector.clone());
            let client = CustomHyperClientBuilder::from(client);
            ServiceAccountAuthenticator::with_client(source.key.clone(), client).build().await
        };
        let authenticator =
            source.authenticator.get_or_try_init(make).await.map_err(|_| {
                NoToken::Refused("The service account's private key cannot be read.".to_owned())
            })?;
        let asked = timeout(LIMIT, authenticator.force_refreshed_token(&[SCOPE])).await;
        let token = asked.map_err(|_| NoToken::Unavailable)?.map_err(|error| understood(&error))?;
        // A token without an end would be kept for ever.
        match (token.token().filter(|text| !text.is_empty()), token.expiration_time()) {
            (Some(text), Some(_)) => Ok((text.to_owned(), LASTS)),
            _ => Err(NoToken::Unavailable),
        }
    }
}

fn understood(error: &yup_oauth2::Error) -> NoToken {
    use yup_oauth2::error::AuthErrorCode as Code;
    match error {
        yup_oauth2::Error::AuthError(refused) => match refused.error {
            Code::InvalidGrant | Code::InvalidClient | Code::UnauthorizedClient | Code::InvalidScope => {
                let why = refused.error_description.clone().unwrap_or_default();
                NoToken::Refused(format!(
                    "Google refuses the service account's key ({}). {why}",
                    refused.error.as_str()
                ))
            }
            _ => NoToken::Unavailable,
        },
        _ => NoToken::Unavailable,
    }
}

impl GetToken for Tokens {
    fn get_token<'a>(
        &'a self,
        _: &'a [&str],
    ) -> Pin<Box<dyn Future<Output = Result<Option<String>, Failure>> + Send + 'a>> {
        Box::pin(async move { self.get().await.map(Some).map_err(|failure| Box::new(failure) as Failure) })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use stand_ins::google::{Google, TokenFault};

    use super::super::api::connector;
    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_a_token_hears_of_an_outage_by_one_question() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let google = Google::start().await;
        google.token_script().always(TokenFault::unavailable());
        let key = serde_json::from_str(&google.credentials()).unwrap();
        let tokens = Tokens::new(key, connector());
        let heard = join_all((0..20).map(|_| tokens.get())).await;
        assert!(heard.iter().all(|it| matches!(it, Err(NoToken::Unavailable))));
        assert_eq!(google.seen().token_requests, 1);
    }
}
