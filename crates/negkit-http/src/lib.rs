//! What requests to any server have in common: which failures pass, and how they are repeated.
//!
//! [`RetryPolicy::run`] is what matters: it tries until there is a result, or a [`Failure`] that lasts.
//! A server that asks to wait is heeded, and given up where it asks for longer than the policy allows.
//! What is asked, and which error comes of it, is the caller's business.
#![deny(missing_docs)]

use std::cell::Cell;
use std::fmt::Display;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use backon::{BlockingRetryable, ExponentialBuilder};
use ureq::Body;

/// Most characters of a server's text that are shown.
pub const MAX_SHOWN: usize = 300;

/// How often and how patiently a request is repeated that failed for a passing reason: a broken
/// connection, a time limit, status 408, 429 or 5xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Repetitions after the first try.
    pub repeats: usize,
    /// The pause before the first repetition; it doubles each time, with jitter.
    pub first_pause: Duration,
    /// The longest pause. A server that asks for a longer one with `Retry-After` is not waited for.
    pub longest_pause: Duration,
}

impl RetryPolicy {
    /// Five repetitions, with pauses of at most two minutes.
    #[must_use]
    pub const fn five(first_pause: Duration) -> Self {
        Self {
            repeats: 5,
            first_pause,
            longest_pause: Duration::from_secs(120),
        }
    }

    /// Runs `operation` until it succeeds, fails for good, or has been repeated often enough.
    ///
    /// # Errors
    /// The last error, with the number of tries.
    pub fn run<T, E: Display>(
        &self,
        mut operation: impl FnMut() -> Result<T, Failure<E>>,
    ) -> Result<T, (E, u32)> {
        let longest = self.longest_pause;
        let pause = Rc::new(Cell::new(Duration::ZERO));
        let sleep = Rc::clone(&pause);
        let mut tries = 0;
        let result = (|| {
            tries += 1;
            operation()
        })
        .retry(
            ExponentialBuilder::default()
                .with_min_delay(self.first_pause)
                .with_max_delay(longest)
                .with_max_times(self.repeats)
                .with_jitter(),
        )
        .sleep(move |_: Duration| std::thread::sleep(sleep.get()))
        .when(|failure: &Failure<E>| {
            failure.transient && failure.wait.is_none_or(|wait| wait <= longest)
        })
        .notify(|failure: &Failure<E>, planned: Duration| {
            let planned = failure.wait.map_or(planned, |wait| wait.max(planned));
            tracing::warn!(error = %failure.error, pause_s = planned.as_secs_f32(), "trying again");
            pause.set(planned);
        })
        .call();
        result.map_err(|failure| (failure.error, tries))
    }
}

/// A try that failed, and whether another may succeed.
#[derive(Debug)]
pub struct Failure<E> {
    /// Why.
    pub error: E,
    /// Whether another try may succeed.
    pub transient: bool,
    /// What the server asks to wait.
    pub wait: Option<Duration>,
}

impl<E> Failure<E> {
    /// Another try may succeed.
    pub fn transient(error: E) -> Self {
        Self {
            error,
            transient: true,
            wait: None,
        }
    }

    /// The failure that a status is, with what its answer asks to wait.
    pub fn of_status(error: E, status: u16, wait: Option<Duration>) -> Self {
        Self {
            error,
            transient: matches!(status, 408 | 429 | 500..=599),
            wait,
        }
    }

    /// The failure of an exchange that gave no answer.
    pub fn of_exchange(error: E, reason: &ureq::Error) -> Self {
        Self {
            error,
            transient: is_passing(reason),
            wait: None,
        }
    }
}

/// No other try would succeed.
impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Self {
            error,
            transient: false,
            wait: None,
        }
    }
}

/// Whether a failed exchange may succeed when it is repeated. A name that cannot be resolved, a
/// certificate that does not fit and an address that makes no sense stay so.
fn is_passing(error: &ureq::Error) -> bool {
    matches!(
        error,
        ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::ConnectionFailed
            | ureq::Error::Protocol(_)
            | ureq::Error::BodyStalled
    )
}

/// The first `limit` bytes of a body.
///
/// # Errors
/// The reason when it breaks off.
pub fn read_to(mut body: Body, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    body.as_reader()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// A text of the other side as it may be shown: short, printable, without the secret.
#[must_use]
pub fn shown(text: &str, secret: Option<&str>) -> String {
    let text = match secret {
        Some(secret) => text.replace(secret, "***"),
        None => text.to_owned(),
    };
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::*;

    const QUICK: RetryPolicy = RetryPolicy {
        repeats: 3,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(40),
    };

    /// Fails as `failures` say, then succeeds.
    fn tried(failures: Vec<Failure<&'static str>>) -> (Result<u32, (&'static str, u32)>, Duration) {
        let mut failures = failures.into_iter();
        let mut tries = 0;
        let start = Instant::now();
        let result = QUICK.run(|| {
            tries += 1;
            failures.next().map_or(Ok(tries), Err)
        });
        (result, start.elapsed())
    }

    #[test]
    fn only_what_may_pass_is_repeated_and_not_for_ever() {
        assert_eq!(tried(vec![]).0, Ok(1));
        let two = || vec![Failure::transient("a"), Failure::transient("b")];
        assert_eq!(tried(two()).0, Ok(3));
        let lasting = vec![Failure::transient("a"), Failure::from("b")];
        assert_eq!(tried(lasting).0, Err(("b", 2)));
        let many = ["a", "b", "c", "d", "e"].map(Failure::transient);
        assert_eq!(tried(many.into()).0, Err(("d", 4)));
    }

    #[test]
    fn a_server_is_waited_for_unless_it_asks_for_too_long() {
        let busy = |wait| vec![Failure::of_status("busy", 429, Some(wait))];
        let wait = Duration::from_millis(30);
        let (result, took) = tried(busy(wait));
        assert!(result == Ok(2) && took >= wait, "{took:?}");
        let (result, _) = tried(busy(Duration::from_secs(3600)));
        assert_eq!(result, Err(("busy", 1)));
    }

    #[test]
    fn statuses_that_pass_are_those_of_load() {
        let passes = |status| Failure::of_status((), status, None).transient;
        assert!([408, 429, 500, 503, 599].into_iter().all(passes));
        assert!(![400, 401, 404, 416].into_iter().any(passes));
    }

    #[test]
    fn a_text_is_shown_without_the_secret_and_cut() {
        let text = format!("key s3cret\nrefused {}", "x".repeat(MAX_SHOWN));
        let text = shown(&text, Some("s3cret"));
        assert!(text.starts_with("key *** refused xxx"), "{text}");
        assert_eq!(text.chars().count(), MAX_SHOWN);
    }
}
