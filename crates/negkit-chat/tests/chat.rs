//! A chat model behind a server that delays, breaks off, refuses and talks nonsense.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use image::RgbImage;
use negkit_chat::{
    ChatAnswerer, ChatClient, ChatConfig, ChatError, JsonLines, Message, PictureFormat, RawAnswer,
    RetryPolicy,
};
use negkit_vqa::replay::ReplayAnswerer;
use negkit_vqa::{Inquiry, Question, QuestionAnswerer, RefusalReason, VqaError};

/// What the server does with one request.
enum Act {
    /// A completion with these words.
    Say(String),
    /// A status, more headers, and a body.
    Raw(u16, &'static str, String),
    /// Announces more than it sends.
    BreakOff,
    /// Says `Say` after a while.
    Late(Duration, String),
}

#[derive(Default)]
struct Seen {
    bodies: Mutex<Vec<String>>,
    heads: Mutex<Vec<String>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

type Plan = Arc<dyn Fn(usize, &str) -> Act + Send + Sync>;

fn serve(plan: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> (ChatConfig, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let seen = Arc::new(Seen::default());
    let plan: Plan = Arc::new(plan);
    let shared = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (plan, seen) = (Arc::clone(&plan), Arc::clone(&shared));
            thread::spawn(move || handle(stream.unwrap(), &plan, &seen));
        }
    });
    let mut config = ChatConfig::new(&url, "test-model").unwrap();
    config.api_key = None;
    config.timeout = Duration::from_secs(10);
    config.retry = RetryPolicy {
        repeats: 2,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_secs(3),
    };
    (config, seen)
}

fn completion(text: &str, reason: &str) -> String {
    let message = serde_json::json!({"role": "assistant", "content": text});
    serde_json::json!({"id": "x", "choices": [{"message": message, "finish_reason": reason}]})
        .to_string()
}

fn handle(stream: TcpStream, plan: &Plan, seen: &Seen) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most.fetch_max(now, Ordering::SeqCst);
    seen.heads.lock().unwrap().push(head);
    let number = {
        let mut bodies = seen.bodies.lock().unwrap();
        bodies.push(body.clone());
        bodies.len()
    };
    let act = plan(number, &body);
    let (status, headers, body, announced) = match act {
        Act::Say(text) => (200, "", completion(&text, "stop"), None),
        Act::Late(pause, text) => {
            thread::sleep(pause);
            (200, "", completion(&text, "stop"), None)
        }
        Act::Raw(status, headers, body) => (status, headers, body, None),
        Act::BreakOff => (200, "", "{\"choices\": [".to_owned(), Some(1000)),
    };
    let length = announced.unwrap_or(body.len());
    // Counted down before the last byte: afterwards the next request may already be on its way.
    seen.now.fetch_sub(1, Ordering::SeqCst);
    let mut stream = stream;
    let _ = write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    );
}

fn ask(config: ChatConfig) -> Result<String, ChatError> {
    let client = ChatClient::new(config).unwrap();
    Ok(client.complete(&[Message::user("hello")])?.text)
}

#[test]
fn words_go_there_and_come_back() {
    let (mut config, seen) = serve(|_, _| Act::Say("Hello.".into()));
    config.sampling.seed = Some(7);
    config.sampling.top_p = Some(0.9);
    config.sampling.temperature = 0.6;
    config.sampling.max_tokens = 12;
    assert_eq!(ask(config).unwrap(), "Hello.");
    let bodies = seen.bodies.lock().unwrap();
    let sent: serde_json::Value = serde_json::from_str(&bodies[0]).unwrap();
    let expected = serde_json::json!({
        "model": "test-model", "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.6, "top_p": 0.9, "seed": 7, "max_tokens": 12, "stream": false
    });
    assert_eq!(sent, expected);
    let head = seen.heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with("post /v1/chat/completions "), "{head}");
    assert!(!head.contains("authorization"), "{head}");
}

#[test]
fn passing_failures_are_repeated() {
    for trouble in 0..4 {
        let (config, seen) = serve(move |number, _| match (number, trouble) {
            (3, _) => Act::Say("there".into()),
            (_, 0) => Act::Raw(500, "", "down".into()),
            (_, 1) => Act::Raw(429, "retry-after: 0\r\n", "slow down".into()),
            (_, 2) => Act::BreakOff,
            // The end of the text is missing, though not of the body.
            _ => Act::Raw(200, "", "{\"choices\": [{".into()),
        });
        assert_eq!(ask(config).unwrap(), "there", "{trouble}");
        assert_eq!(seen.bodies.lock().unwrap().len(), 3);
    }
}

#[test]
fn the_pause_that_is_asked_for_is_kept() {
    let limited = |seconds: &'static str| {
        serve(move |number, _| match number {
            1 => Act::Raw(429, seconds, String::new()),
            _ => Act::Say("there".into()),
        })
    };
    let (config, _) = limited("retry-after: 1\r\n");
    let start = Instant::now();
    assert_eq!(ask(config).unwrap(), "there");
    assert!(start.elapsed() >= Duration::from_secs(1));

    // Longer than one cares to wait.
    let (config, seen) = limited("retry-after: 600\r\n");
    let said = ask(config).unwrap_err().to_string();
    assert!(said.contains("429") && said.contains("600 s"), "{said}");
    assert_eq!(seen.bodies.lock().unwrap().len(), 1);
}

#[test]
fn lasting_failures_are_told_at_once_or_in_the_end() {
    let (config, seen) = serve(|_, _| Act::Raw(503, "", "overloaded".into()));
    let said = ask(config).unwrap_err();
    assert!(
        matches!(
            said,
            ChatError::Status {
                status: 503,
                attempts: 3,
                ..
            }
        ),
        "{said}"
    );
    assert!(said.to_string().contains("overloaded"));
    assert_eq!(seen.bodies.lock().unwrap().len(), 3);

    let (config, _) = serve(|_, _| Act::BreakOff);
    let said = ask(config).unwrap_err();
    assert!(
        matches!(said, ChatError::Connection { attempts: 3, .. }),
        "{said}"
    );

    for (status, body, part) in [
        (400, "no such picture", "no such picture"),
        (401, "who are you?", "NEGKIT_CHAT_API_KEY"),
        (404, "", "404"),
        (302, "", "302"),
        (200, "<html>hello</html>", "<html>"),
        (200, "{\"choices\": []}", "empty"),
        (200, "{\"choices\": [{\"message\": {}}]}", "content"),
        (200, "{\"choices\": 3}", "expected a sequence"),
        (200, "\u{1}\u{2}", "no chat completion"),
    ] {
        let (config, seen) = serve(move |_, _| Act::Raw(status, "location: /x\r\n", body.into()));
        let said = ask(config).unwrap_err().to_string();
        assert!(said.contains(part), "{part} is not in {said}");
        assert_eq!(seen.bodies.lock().unwrap().len(), 1, "{said}");
    }

    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (mut config, _) = serve(|_, _| Act::BreakOff);
    let retry = config.retry;
    config = ChatConfig::new(&format!("http://{gone}/v1"), "m").unwrap();
    config.retry = retry;
    let said = ask(config).unwrap_err();
    assert!(matches!(said, ChatError::Connection { .. }), "{said}");
}

#[test]
fn a_late_answer_is_no_answer() {
    let (mut config, _) = serve(|_, _| Act::Late(Duration::from_secs(5), "late".into()));
    config.timeout = Duration::from_millis(100);
    config.retry.repeats = 1;
    let start = Instant::now();
    let said = ask(config).unwrap_err();
    assert!(
        matches!(said, ChatError::Connection { attempts: 2, .. }),
        "{said}"
    );
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_longer_answer_than_is_read_is_refused() {
    let (mut config, _) = serve(|_, _| Act::Say("word ".repeat(1000)));
    config.most_bytes = 100;
    let said = ask(config).unwrap_err().to_string();
    assert!(said.contains("100 bytes"), "{said}");
}

#[test]
fn no_more_requests_at_a_time_than_allowed() {
    let (mut config, seen) = serve(|number, _| match number % 5 {
        0 => Act::Raw(500, "", String::new()),
        _ => Act::Late(Duration::from_millis(15), "yes".into()),
    });
    config.concurrency = 3;
    config.retry.repeats = 20;
    let answerer = ChatAnswerer::new(ChatClient::new(config).unwrap());
    let picture = RgbImage::new(2, 2);
    let questions = [Question::yes_no("is it day?"); 12];
    let inquiry = Inquiry {
        picture: &picture,
        key: None,
        questions: &questions,
    };
    // Two callers share the one bound.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let answers = answerer.inquire(&inquiry).unwrap();
                assert!(answers.len() == 12 && answers.iter().all(|a| a.text == "yes"));
            });
        }
    });
    let most = seen.most.load(Ordering::SeqCst);
    assert_eq!(most, 3, "the bound is used, and kept");
    assert!(seen.bodies.lock().unwrap().len() > 24);
}

#[test]
fn pictures_are_sent_as_data_urls() {
    let (mut config, seen) = serve(|_, _| Act::Say("a red square".into()));
    let picture = RgbImage::from_pixel(3, 2, image::Rgb([250, 10, 20]));
    for format in [PictureFormat::Png, PictureFormat::Jpeg(90)] {
        config.picture_format = format;
        let answerer = ChatAnswerer::new(ChatClient::new(config.clone()).unwrap());
        let answers = answerer.answer(&picture, &["what is it?"]).unwrap();
        assert_eq!(answers[0].text, "a red square");
    }
    for (body, kind) in seen.bodies.lock().unwrap().iter().zip(["png", "jpeg"]) {
        let sent: serde_json::Value = serde_json::from_str(body).unwrap();
        let parts = &sent["messages"][0]["content"];
        assert_eq!(parts[1]["type"], "text");
        assert!(
            parts[1]["text"]
                .as_str()
                .unwrap()
                .starts_with("what is it?\n")
        );
        assert_eq!(parts[0]["type"], "image_url");
        let url = parts[0]["image_url"]["url"].as_str().unwrap();
        let data = url
            .strip_prefix(&format!("data:image/{kind};base64,"))
            .unwrap();
        let bytes = base64(data);
        let back = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(back.dimensions(), (3, 2));
        if kind == "png" {
            assert_eq!(back, picture);
        }
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|d| *d == digit).unwrap();
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

#[test]
fn what_is_no_answer_is_kept_and_not_guessed_at() {
    let (config, _) = serve(|_, body| {
        let said = |text: &str| Act::Say(text.into());
        match body {
            b if b.contains("is it day?") => said("Yes, the sun shines."),
            b if b.contains("is it cold?") => said("That is hard to say."),
            b if b.contains("is it late?") => Act::Raw(200, "", completion("No", "length")),
            b if b.contains("A) car\\nB) tree") => said("B) tree"),
            _ => said("A text. ".repeat(20).as_str()),
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raw.jsonl");
    std::fs::write(&path, "{\"picture\": \"unfin").unwrap();
    let answerer = ChatAnswerer::new(ChatClient::new(config).unwrap())
        .record(JsonLines::append(&path).unwrap());
    let picture = RgbImage::new(2, 2);
    let questions = [
        Question::yes_no("is it day?"),
        Question::yes_no("is it cold?"),
        Question::yes_no("is it late?"),
        Question {
            text: "what is it?",
            choices: &["car", "tree"],
        },
        Question::free("what else?"),
    ];
    let inquiry = Inquiry {
        picture: &picture,
        key: Some("a.png"),
        questions: &questions,
    };
    let answers = answerer.inquire(&inquiry).unwrap();
    let texts: Vec<&str> = answers.iter().map(|a| a.text.as_str()).collect();
    assert_eq!(texts, ["yes", "", "", "tree", ""]);
    let reasons: Vec<_> = answers
        .iter()
        .map(|a| a.refusal.as_ref().map(|r| r.reason))
        .collect();
    assert_eq!(
        reasons,
        [
            None,
            Some(RefusalReason::NeitherYesNorNo),
            Some(RefusalReason::CutOff),
            None,
            Some(RefusalReason::TooLong)
        ]
    );
    assert_eq!(
        answers[1].refusal.as_ref().unwrap().raw,
        "That is hard to say."
    );

    // Every word is kept, and a later run can do without the model.
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(kept.lines().count(), 5);
    assert!(kept.contains("Yes, the sun shines.") && kept.contains("\"finish_reason\":\"length\""));
    let stored = ReplayAnswerer::open(&path).unwrap();
    assert_eq!(stored.inquire(&inquiry).unwrap(), answers);
}

#[test]
fn one_failure_ends_the_batch_and_an_empty_question_is_none() {
    let (mut config, seen) = serve(|_, _| Act::Raw(400, "", "too large".into()));
    config.concurrency = 1;
    let answerer = ChatAnswerer::new(ChatClient::new(config).unwrap());
    let picture = RgbImage::new(2, 2);
    let said = answerer.answer(&picture, &["a?", "b?", "c?"]).unwrap_err();
    assert!(said.to_string().contains("too large"), "{said}");
    assert_eq!(seen.bodies.lock().unwrap().len(), 1);
    let said = answerer.answer(&picture, &["a?", " "]).unwrap_err();
    assert!(
        matches!(said, VqaError::EmptyQuestion { index: 1 }),
        "{said}"
    );
    assert!(answerer.answer(&picture, &[]).unwrap().is_empty());
    // A picture without pixels cannot be a PNG.
    assert!(answerer.answer(&RgbImage::new(0, 0), &["a?"]).is_err());

    let (config, _) = serve(|_, _| Act::Say("yes".into()));
    let broken = |answer: &RawAnswer| -> Result<(), ChatError> {
        Err(ChatError::Record {
            path: answer.question.clone().into(),
            cause: std::io::Error::other("the disk is full"),
        })
    };
    let answerer = ChatAnswerer::new(ChatClient::new(config).unwrap()).record(broken);
    let said = answerer.answer(&picture, &["a?"]).unwrap_err();
    assert!(said.to_string().contains("the disk is full"), "{said}");
}
