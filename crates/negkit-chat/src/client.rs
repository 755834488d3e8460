//! HTTP towards the endpoint.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use negkit_digest::hexadecimal;
use negkit_http::{MAX_SHOWN, read_to, shown};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ureq::http::{Response, header};
use ureq::{Agent, Body, Proxy};

use crate::cache::AnswerCache;
use crate::gate::Gate;
use crate::{ApiKey, ChatConfig, ChatError, Message, Sampling};

/// A client of one model at one endpoint. May be used by many threads, whose requests together stay
/// within [`ChatConfig::concurrency`].
pub struct ChatClient {
    agent: Agent,
    config: ChatConfig,
    gate: Gate,
    cache: Option<AnswerCache>,
    spent: Counters,
}

/// Tokens of one exchange, as the endpoint counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the request, pictures included.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Of the answer.
    #[serde(default)]
    pub completion_tokens: u64,
}

/// What a client has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Requests that were sent, those that failed included.
    pub requests: u64,
    /// Requests that were answered from the cache.
    pub cached: u64,
    /// Tokens sent, of the answers that were had.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub completion_tokens: u64,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    cached: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
}

/// What a model said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Its words.
    pub text: String,
    /// Why it stopped: `stop`, `length` and others.
    pub finish_reason: Option<String>,
    /// What it cost, where the endpoint says so. It is that of the first time where the answer comes
    /// from the cache.
    pub usage: Option<Usage>,
    /// SHA-256 of the request: model, messages and sampling, but not the endpoint's address.
    pub request: String,
    /// Whether it comes from the cache.
    pub cached: bool,
}

impl Completion {
    /// Whether it was stopped by [`Sampling::max_tokens`] before it had finished.
    pub fn is_cut_off(&self) -> bool {
        self.finish_reason.as_deref() == Some("length")
    }
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: &'a [Message],
    #[serde(flatten)]
    sampling: &'a Sampling,
    stream: bool,
}

#[derive(Deserialize)]
struct Reply {
    choices: Vec<ReplyChoice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct ReplyChoice {
    message: ReplyMessage,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct ReplyMessage {
    #[serde(default)]
    content: Option<String>,
    /// OpenAI's own models refuse here.
    #[serde(default)]
    refusal: Option<String>,
}

type Failure = negkit_http::Failure<ChatError>;

impl ChatClient {
    /// A client. Nothing is sent yet. Proxies of the environment are honoured, but for an endpoint
    /// on this machine.
    ///
    /// # Errors
    /// [`ChatError::Setting`] when a setting makes no sense.
    pub fn new(config: ChatConfig) -> Result<Self, ChatError> {
        config.check()?;
        if config.api_key.is_some() && !config.is_local() && config.url.scheme_str() == Some("http")
        {
            tracing::warn!(url = %config.url, "the key is sent without encryption");
        }
        let proxy = match config.is_local() {
            true => None,
            false => Proxy::try_from_env(),
        };
        let agent = Agent::new_with_config(
            Agent::config_builder()
                .max_redirects(0)
                .max_redirects_will_error(false)
                .http_status_as_error(false)
                .user_agent(concat!("negkit/", env!("CARGO_PKG_VERSION")))
                .proxy(proxy)
                .timeout_connect(Some(config.connect_timeout))
                .timeout_global(Some(config.timeout))
                .build(),
        );
        Ok(Self {
            agent,
            gate: Gate::new(config.concurrency),
            config,
            cache: None,
            spent: Counters::default(),
        })
    }

    /// Keeps every answer in `cache`, and sends no request that has an answer there.
    pub fn cache(mut self, cache: AnswerCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// What was sent and had so far.
    pub fn spent(&self) -> Spent {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Spent {
            requests: of(&self.spent.requests),
            cached: of(&self.spent.cached),
            prompt_tokens: of(&self.spent.prompt_tokens),
            completion_tokens: of(&self.spent.completion_tokens),
        }
    }

    /// The settings.
    pub fn config(&self) -> &ChatConfig {
        &self.config
    }

    /// What the model says next, with the sampling of the configuration.
    ///
    /// # Errors
    /// When no answer could be had after all repetitions, or it is no chat completion.
    pub fn complete(&self, messages: &[Message]) -> Result<Completion, ChatError> {
        self.complete_with(messages, &self.config.sampling)
    }

    /// As [`ChatClient::complete`], with another sampling.
    ///
    /// # Errors
    /// As [`ChatClient::complete`].
    pub fn complete_with(
        &self,
        messages: &[Message],
        sampling: &Sampling,
    ) -> Result<Completion, ChatError> {
        let request = Request {
            model: &self.config.model,
            messages,
            sampling,
            stream: false,
        };
        let body = serde_json::to_vec(&request).map_err(|e| ChatError::Setting {
            setting: "sampling",
            message: e.to_string(),
        })?;
        let key: [u8; 32] = Sha256::digest(&body).into();
        let ask = || {
            let had = self.config.retry.run(|| self.exchange(&body));
            let had = had.map_err(|(error, tries)| error.after(tries))?;
            if let Some(usage) = had.usage {
                let add = |to: &AtomicU64, tokens| to.fetch_add(tokens, Ordering::Relaxed);
                add(&self.spent.prompt_tokens, usage.prompt_tokens);
                add(&self.spent.completion_tokens, usage.completion_tokens);
            }
            Ok(had)
        };
        let mut completion = match &self.cache {
            Some(cache) => cache.answer(key, &self.config.model, ask)?,
            None => ask()?,
        };
        completion.request = hexadecimal(key);
        if completion.cached {
            self.spent.cached.fetch_add(1, Ordering::Relaxed);
        }
        Ok(completion)
    }

    /// One try. The place behind the gate is held for it alone, not for the pauses between tries.
    fn exchange(&self, body: &[u8]) -> Result<Completion, Failure> {
        let _pass = self.gate.enter();
        self.spent.requests.fetch_add(1, Ordering::Relaxed);
        let mut request = self
            .agent
            .post(self.config.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        if let Some(key) = &self.config.api_key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.secret()));
        }
        let response = request
            .send(body)
            .map_err(|error| Failure::of_exchange(self.connection(error.to_string()), &error))?;
        if !response.status().is_success() {
            return Err(self.refused(response));
        }
        let most = self.config.most_bytes;
        let body = read_to(response.into_body(), most + 1)
            .map_err(|e| Failure::transient(self.connection(e)))?;
        if body.len() as u64 > most {
            return Err(self.protocol(format!("it is longer than {most} bytes"), false));
        }
        self.read(&body)
    }

    fn read(&self, body: &[u8]) -> Result<Completion, Failure> {
        let reply: Reply = serde_json::from_slice(body).map_err(|error| {
            let text = String::from_utf8_lossy(body);
            // Without a length a body that broke off is known by its end alone.
            self.protocol(
                format!("{error}, in {:?}", self.clean(&text)),
                error.is_eof(),
            )
        })?;
        let Some(choice) = reply.choices.into_iter().next() else {
            return Err(self.protocol("`choices` is empty".to_owned(), false));
        };
        match choice.message.content.or(choice.message.refusal) {
            Some(text) => Ok(Completion {
                text,
                finish_reason: choice.finish_reason,
                usage: reply.usage,
                request: String::new(),
                cached: false,
            }),
            None => Err(self.protocol("`choices[0].message` has no `content`".to_owned(), false)),
        }
    }

    fn refused(&self, response: Response<Body>) -> Failure {
        let status = response.status().as_u16();
        let wait = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, SystemTime::now()));
        let reason = response.status().canonical_reason().unwrap_or("no reason");
        let body = read_to(response.into_body(), MAX_SHOWN as u64).unwrap_or_default();
        let mut message = match String::from_utf8_lossy(&body).trim() {
            "" => reason.to_owned(),
            text => self.clean(text),
        };
        if let Some(wait) = wait {
            message = format!("{message}; asks to wait {} s", wait.as_secs());
        }
        let url = self.config.url();
        let error = match status {
            401 | 403 => ChatError::Unauthorized {
                url,
                status,
                message,
                with_key: self.config.api_key.is_some(),
            },
            _ => ChatError::Status {
                url,
                status,
                message,
                attempts: 1,
            },
        };
        Failure::of_status(error, status, wait)
    }

    fn connection(&self, message: String) -> ChatError {
        ChatError::Connection {
            url: self.config.url(),
            message: self.clean(&message),
            attempts: 1,
        }
    }

    fn protocol(&self, message: String, transient: bool) -> Failure {
        let error = ChatError::Protocol {
            url: self.config.url(),
            message,
        };
        Failure {
            error,
            transient,
            wait: None,
        }
    }

    /// A text of the other side as it may be shown: short, printable, without the key.
    fn clean(&self, text: &str) -> String {
        shown(text, self.config.api_key.as_ref().map(ApiKey::secret))
    }
}

/// Seconds, or a date, as a time from `now` on.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_date() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        let later = retry_after("Wed, 21 Oct 2015 07:28:30 GMT", now);
        assert_eq!(later, Some(Duration::from_secs(30)));
        let before = retry_after("Wed, 21 Oct 2015 07:27:00 GMT", now);
        assert_eq!(before, Some(Duration::ZERO));
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-1", now), None);
    }
}
