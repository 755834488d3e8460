//! Settings of a chat model.

use std::fmt;
use std::time::Duration;

use negkit_http::RetryPolicy;
use serde::Serialize;
use ureq::http::Uri;

use crate::{ChatError, PictureFormat};

/// The variable of the environment that holds the key. It is one of its own, because a key of
/// OpenAI's must not go to whatever endpoint is named.
pub const API_KEY_VARIABLE: &str = "NEGKIT_CHAT_API_KEY";

const COMPLETIONS: &str = "/chat/completions";

/// A key of an endpoint. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key in [`API_KEY_VARIABLE`], where it is set and not empty.
    pub fn from_env() -> Option<Self> {
        Self::from_variable(API_KEY_VARIABLE)
    }

    /// The key in another variable.
    pub fn from_variable(name: &str) -> Option<Self> {
        let key = std::env::var(name).ok()?.trim().to_owned();
        (!key.is_empty()).then_some(Self(key))
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// How words are chosen. Only what is set is sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sampling {
    /// 0 takes the likeliest word each time.
    pub temperature: f64,
    /// The share of probability that words are drawn from, over 0 and up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Seed of the draws, where the endpoint knows one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Most tokens of an answer.
    pub max_tokens: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.,
            top_p: None,
            seed: Some(0),
            max_tokens: 512,
        }
    }
}

/// Which model is asked, where, and how.
#[derive(Debug, Clone)]
pub struct ChatConfig {
    pub(crate) url: Uri,
    /// The model's name, as the endpoint knows it.
    pub model: String,
    /// Sent to the endpoint, and to no other: redirects are not followed.
    pub api_key: Option<ApiKey>,
    /// How words are chosen.
    pub sampling: Sampling,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest time that one try takes, from the first to the last byte.
    pub timeout: Duration,
    /// Requests at a time, of all threads together.
    pub concurrency: usize,
    /// How requests are repeated.
    pub retry: RetryPolicy,
    /// The form in which pictures are sent.
    pub picture_format: PictureFormat,
    /// Longest answer that is read, in bytes.
    pub most_bytes: u64,
}

impl ChatConfig {
    /// The model `model` of the endpoint at `base_url` (such as `http://127.0.0.1:8000/v1`; the full
    /// address with `/chat/completions` does as well), with the key of [`ApiKey::from_env`].
    ///
    /// # Errors
    /// [`ChatError::Setting`] when the address is none of http or https, holds a password, or the
    /// model has no name.
    pub fn new(base_url: &str, model: &str) -> Result<Self, ChatError> {
        let wrong = |message: String| ChatError::Setting {
            setting: "address of the chat endpoint",
            message,
        };
        let base = base_url.trim().trim_end_matches('/');
        let base = base.strip_suffix(COMPLETIONS).unwrap_or(base);
        let url: Uri = format!("{base}{COMPLETIONS}")
            .parse()
            .map_err(|e| wrong(format!("it cannot be read ({e})")))?;
        let authority = url.authority().map(|all| all.as_str()).unwrap_or_default();
        if authority.contains('@') {
            let message = format!(
                "a name or password in it would be shown; put the key into {API_KEY_VARIABLE}"
            );
            return Err(wrong(message));
        }
        if !matches!(url.scheme_str(), Some("http" | "https")) || authority.is_empty() {
            let message = format!("expected http://host/v1 or https://host/v1, found {base:?}");
            return Err(wrong(message));
        }
        if url.query().is_some() {
            return Err(wrong("a query (after `?`) cannot be part of it".to_owned()));
        }
        if model.trim().is_empty() {
            return Err(ChatError::Setting {
                setting: "chat model",
                message: "expected the name that the endpoint knows it by, found none".to_owned(),
            });
        }
        Ok(Self {
            url,
            model: model.trim().to_owned(),
            api_key: ApiKey::from_env(),
            sampling: Sampling::default(),
            connect_timeout: Duration::from_secs(20),
            timeout: Duration::from_secs(300),
            concurrency: 8,
            retry: RetryPolicy::five(Duration::from_secs(1)),
            picture_format: PictureFormat::Png,
            most_bytes: 16 << 20,
        })
    }

    /// As [`ChatConfig::new`], from `MODEL@URL`; the model's name may hold an `@` too.
    ///
    /// # Errors
    /// As [`ChatConfig::new`], and when there is no `@http`.
    pub fn from_spec(spec: &str) -> Result<Self, ChatError> {
        let at = spec.find("@http://").or_else(|| spec.find("@https://"));
        match at {
            Some(at) => Self::new(&spec[at + 1..], &spec[..at]),
            None => Err(ChatError::Setting {
                setting: "chat model",
                message: "expected MODEL@URL, such as llava@http://127.0.0.1:11434/v1".to_owned(),
            }),
        }
    }

    /// The address that is asked.
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    pub(crate) fn check(&self) -> Result<(), ChatError> {
        let wrong = |setting, message: &str| {
            Err(ChatError::Setting {
                setting,
                message: message.to_owned(),
            })
        };
        let sampling = &self.sampling;
        if self.concurrency == 0 {
            return wrong(
                "concurrency",
                "expected one request at a time or more, found 0",
            );
        }
        if !sampling.temperature.is_finite() || sampling.temperature < 0. {
            return wrong("temperature", "expected a number that is not negative");
        }
        if sampling.top_p.is_some_and(|p| !(p > 0. && p <= 1.)) {
            return wrong("top_p", "expected a number over 0 and up to 1");
        }
        if sampling.max_tokens == 0 {
            return wrong("max_tokens", "expected one token or more, found 0");
        }
        if self.timeout.is_zero() || self.connect_timeout.is_zero() {
            return wrong("timeout", "expected a time over 0");
        }
        Ok(())
    }

    /// Whether the endpoint is on this machine, where no proxy leads to.
    pub(crate) fn is_local(&self) -> bool {
        let host = self.url.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || bare
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_read_in_its_usual_forms() {
        for (base, url) in [
            ("http://a:8000/v1", "http://a:8000/v1/chat/completions"),
            ("http://a/v1/", "http://a/v1/chat/completions"),
            ("https://a/chat/completions", "https://a/chat/completions"),
        ] {
            assert_eq!(ChatConfig::new(base, "m").unwrap().url(), url);
        }
        for (base, part) in [
            ("a:8000", "cannot be read"),
            ("ftp://a/v1", "ftp://a/v1"),
            ("http://me:secret@a/v1", "NEGKIT_CHAT_API_KEY"),
            ("http://a/v1?key=3", "cannot"),
            ("", "expected"),
        ] {
            let said = ChatConfig::new(base, "m").unwrap_err().to_string();
            assert!(said.contains("address of the chat endpoint"), "{said}");
            assert!(!said.contains("secret"), "{said}");
            assert!(
                said.contains(part) || base == "a:8000",
                "{part} is not in {said}"
            );
        }
        let config = ChatConfig::from_spec("a/b@7b@http://127.0.0.1:1/v1").unwrap();
        assert_eq!(config.model, "a/b@7b");
        assert!(config.is_local());
        assert!(ChatConfig::from_spec("http://a/v1").is_err());
        assert!(ChatConfig::from_spec("@http://a/v1").is_err());
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let good = ChatConfig::new("http://a/v1", "m").unwrap();
        good.check().unwrap();
        let mut bad = good.clone();
        bad.concurrency = 0;
        assert!(bad.check().is_err());
        let mut bad = good.clone();
        bad.sampling.temperature = f64::NAN;
        assert!(bad.check().is_err());
        let mut bad = good;
        bad.sampling.top_p = Some(1.5);
        assert!(bad.check().is_err());
    }

    #[test]
    fn a_key_is_never_shown() {
        assert_eq!(format!("{:?}", ApiKey("secret".into())), "ApiKey(…)");
    }
}
