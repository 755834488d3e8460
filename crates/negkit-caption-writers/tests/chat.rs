//! Chat models as writer and verifier, behind a server that refuses, rambles, delays and breaks off.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use image::RgbImage;
use negkit_caption_writers::{ChatVerifier, ChatWriter, Prompts};
use negkit_captions::{
    CaptionError, CaptionWriter, ImageRef, ObjectVerifier, Outcome, QualityGate, Reason,
    SourceCaption, Transcript, Verdict, VqaPair, p1_caption, p2_caption,
};
use negkit_chat::{AnswerCache, ChatClient, ChatConfig, RetryPolicy, Sampling};
use serde_json::{Value, json};

/// What the server does with a request.
enum Act {
    Say(&'static str),
    CutOff(&'static str),
    Status(u16),
    BreakOff,
    Late(Duration),
}

type Seen = Arc<Mutex<Vec<Value>>>;

fn serve(plan: impl Fn(&Value) -> Act + Send + Sync + 'static) -> (ChatConfig, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let seen = Seen::default();
    let (plan, shared) = (Arc::new(plan), Arc::clone(&seen));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (plan, seen) = (Arc::clone(&plan), Arc::clone(&shared));
            thread::spawn(move || answer(stream.unwrap(), &*plan, &seen));
        }
    });
    let mut config = ChatConfig::new(&url, "test-model").unwrap();
    config.api_key = None;
    config.timeout = Duration::from_secs(10);
    config.retry = RetryPolicy {
        repeats: 1,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
    };
    (config, seen)
}

fn answer(stream: TcpStream, plan: &dyn Fn(&Value) -> Act, seen: &Seen) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    seen.lock().unwrap().push(body.clone());
    let completion = |text: &str, reason: &str| {
        let message = json!({"role": "assistant", "content": text});
        let usage = json!({"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42});
        json!({"choices": [{"message": message, "finish_reason": reason}], "usage": usage})
            .to_string()
    };
    let (status, text, more) = match plan(&body) {
        Act::Say(text) => (200, completion(text, "stop"), 0),
        Act::CutOff(text) => (200, completion(text, "length"), 0),
        Act::Status(status) => (status, "no".to_owned(), 0),
        Act::BreakOff => (200, "{".to_owned(), 100),
        Act::Late(pause) => {
            thread::sleep(pause);
            (200, completion("late", "stop"), 0)
        }
    };
    let mut stream = stream;
    let _ = write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len() + more
    );
}

/// All that is asked last, in words.
fn asked(body: &Value) -> String {
    let content = &body["messages"].as_array().unwrap().last().unwrap()["content"];
    match content {
        Value::String(text) => text.clone(),
        parts => parts[1]["text"].as_str().unwrap().to_owned(),
    }
}

fn client(config: ChatConfig) -> Arc<ChatClient> {
    Arc::new(ChatClient::new(config).unwrap())
}

fn writer(config: ChatConfig) -> ChatWriter<'static> {
    ChatWriter::new(client(config), Arc::new(Prompts::built_in().unwrap()))
}

fn verifier(config: ChatConfig) -> ChatVerifier<'static> {
    ChatVerifier::new(client(config), Arc::new(Prompts::built_in().unwrap()))
}

fn source(file: Option<PathBuf>) -> SourceCaption {
    SourceCaption {
        id: 11,
        image: ImageRef { id: 5, file },
        text: "A man \"rides\" a horse on a beach.".to_owned(),
    }
}

fn picture(folder: &Path) -> PathBuf {
    let path = folder.join("a.jpg");
    RgbImage::from_pixel(8, 8, image::Rgb([9, 90, 200]))
        .save(&path)
        .unwrap();
    path
}

const GOOD: &str = "A man \"rides\" a horse on a beach with no umbrella.";

#[test]
fn p1_goes_through_its_three_steps_and_everything_is_kept() {
    let (mut config, seen) = serve(|body| match asked(body) {
        text if text.contains("leaves out") => Act::Say("**Umbrella**"),
        text if text.contains("any umbrella") => Act::Say("No."),
        text if text.contains("Not in the photo: umbrella") => Act::Say(GOOD),
        text => panic!("{text}"),
    });
    config.sampling = Sampling {
        temperature: 0.6,
        top_p: Some(0.9),
        ..Sampling::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = picture(folder.path());
    let transcript = Transcript::default();
    let outcome = p1_caption(
        &source(Some(file.clone())),
        &writer(config.clone()).keeping(&transcript),
        &verifier(config).keeping(&transcript),
        &QualityGate::default(),
    );
    let kept = outcome.unwrap();
    assert_eq!(kept.updated_caption, GOOD);
    assert_eq!(kept.object.as_deref(), Some("umbrella"));
    assert_eq!(kept.verdict, Some(Verdict::No));

    let exchanges = transcript.into_exchanges();
    let steps: Vec<&str> = exchanges
        .iter()
        .map(|exchange| exchange.step.as_str())
        .collect();
    assert_eq!(steps, ["object", "verify", "absence"]);
    assert_eq!(exchanges[0].answer, "**Umbrella**");
    assert_eq!(exchanges[0].model, "test-model");
    assert_eq!(
        (exchanges[1].prompt_tokens, exchanges[1].completion_tokens),
        (Some(40), Some(2))
    );
    assert!(
        exchanges
            .iter()
            .all(|exchange| exchange.request_sha256.len() == 64)
    );
    assert_ne!(exchanges[0].prompt_sha256, exchanges[2].prompt_sha256);

    let seen = seen.lock().unwrap();
    assert_eq!(
        (&seen[0]["temperature"], &seen[0]["top_p"]),
        (&json!(0.6), &json!(0.9))
    );
    // The caption reaches the model with its quotes, after two worked examples.
    assert!(
        asked(&seen[0]).contains("\"A man \"rides\" a horse on a beach.\""),
        "{}",
        asked(&seen[0])
    );
    assert_eq!(seen[2]["messages"].as_array().unwrap().len(), 6);
    // The picture goes out as its file is.
    let url = seen[1]["messages"][0]["content"][0]["image_url"]["url"]
        .as_str()
        .unwrap();
    assert!(url.starts_with("data:image/jpeg;base64,/9j/"), "{url}");
    let encoded = url.len() - "data:image/jpeg;base64,".len();
    assert_eq!(
        encoded.div_ceil(4),
        (std::fs::metadata(&file).unwrap().len() as usize).div_ceil(3)
    );
}

fn p1_with(plan: impl Fn(&str) -> Act + Send + Sync + 'static) -> Outcome {
    let (config, _) = serve(move |body| plan(&asked(body)));
    let folder = tempfile::tempdir().unwrap();
    let source = source(Some(picture(folder.path())));
    let (writer, verifier) = (writer(config.clone()), verifier(config));
    p1_caption(&source, &writer, &verifier, &QualityGate::default())
}

#[test]
fn what_is_no_object_is_not_used() {
    for said in [
        "I'm sorry, but I cannot help with that.",
        "Sorry",
        "An umbrella, because beaches are often sunny and people bring umbrellas there.",
        "- umbrella\n- towel",
        "雨伞",
        "",
    ] {
        let reason = p1_with(move |_| Act::Say(said)).unwrap_err().reason;
        let Reason::Failed(CaptionError::UnusableAnswer { answer, expected }) = &reason else {
            panic!("{said}: {reason}");
        };
        assert_eq!(answer, said);
        assert!(expected.contains("one object"));
        assert_eq!(reason.kind(), "unusable-answer");
    }
    let reason = p1_with(|_| Act::Say("a horse")).unwrap_err().reason;
    assert_eq!(reason.kind(), "object-named");
    let reason = p1_with(|_| Act::CutOff("umbrella")).unwrap_err().reason;
    assert!(reason.to_string().contains("cut off"), "{reason}");
}

#[test]
fn what_is_neither_yes_nor_no_drops_the_caption() {
    for (said, kind) in [
        ("Yes, there is one.", "object-there"),
        ("I see a beach and maybe an umbrella.", "unsure"),
        ("Non, il n'y a pas de parapluie.", "unsure"),
        ("No umbrellas are there but I may be wrong", "unsure"),
        ("", "unsure"),
    ] {
        let outcome = p1_with(move |text| match text {
            text if text.contains("any umbrella") => Act::Say(said),
            text if text.contains("leaves out") => Act::Say("umbrella"),
            _ => Act::Say(GOOD),
        });
        let rejected = outcome.unwrap_err();
        assert_eq!(rejected.reason.kind(), kind, "{said}: {rejected}");
        assert_eq!(rejected.object.as_deref(), Some("umbrella"));
    }
}

#[test]
fn what_is_no_caption_is_not_kept() {
    for (said, kind) in [
        (
            "Caption: A man \"rides\" a horse on a beach with no umbrella.",
            "unusable-answer",
        ),
        (
            "## Caption\nA man \"rides\" a horse on a beach with no umbrella.",
            "unusable-answer",
        ),
        ("I cannot do that.", "gate-object-missing"),
        (
            "Un homme sans parapluie monte un cheval sur une plage.",
            "gate-no-negation",
        ),
        ("一个男人在海滩上骑马，没有伞", "gate-no-negation"),
        (
            "A man \"rides\" a horse on a beach with an umbrella, not a hat.",
            "gate-object-not-denied",
        ),
        (
            "No man \"rides\" a horse on a beach with no umbrella.",
            "gate-content-denied",
        ),
        ("There is no umbrella.", "gate-content-lost"),
        (
            "A man \"rides\" a horse on a beach with no umbrella. This caption now states the absence \
             clearly, as requested, without changing anything else of its meaning.",
            "gate-too-much-added",
        ),
    ] {
        let outcome = p1_with(move |text| match text {
            text if text.contains("any umbrella") => Act::Say("no"),
            text if text.contains("leaves out") => Act::Say("umbrella"),
            _ => Act::Say(said),
        });
        let rejected = outcome.unwrap_err();
        assert_eq!(rejected.reason.kind(), kind, "{said}: {rejected}");
    }
}

#[test]
fn a_server_that_is_down_slow_or_broken_may_be_asked_later() {
    let acts: [fn() -> Act; 5] = [
        || Act::Status(500),
        || Act::Status(429),
        || Act::Status(400),
        || Act::BreakOff,
        || Act::Late(Duration::from_secs(2)),
    ];
    for act in acts {
        let (mut config, _) = serve(move |_| act());
        config.timeout = Duration::from_millis(300);
        let error = writer(config)
            .name_absent_object(&source(None))
            .unwrap_err();
        assert!(
            error.may_pass() && error.to_string().contains("test-model"),
            "{error}"
        );
    }
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut config = ChatConfig::new(&format!("http://{gone}/v1"), "m").unwrap();
    config.retry.repeats = 0;
    let error = writer(config)
        .write_absence(&source(None), "hat")
        .unwrap_err();
    assert!(matches!(error, CaptionError::Unavailable { .. }), "{error}");
}

#[test]
fn a_picture_that_is_missing_or_broken_is_not_asked_about() {
    let (config, seen) = serve(|_| Act::Say("no"));
    let verifier = verifier(config);
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.jpg");
    let whole = std::fs::read(picture(folder.path())).unwrap();
    std::fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    let text = folder.path().join("text.jpg");
    std::fs::write(&text, "no picture").unwrap();
    for file in [
        None,
        Some(folder.path().join("none.jpg")),
        Some(broken),
        Some(text),
    ] {
        let error = verifier.look(&ImageRef { id: 7, file }, "hat").unwrap_err();
        assert!(
            matches!(error, CaptionError::Picture { id: 7, .. }) && error.may_pass(),
            "{error}"
        );
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn nobody_is_asked_about_a_caption_that_can_come_to_nothing() {
    let (config, seen) = serve(|_| Act::Say("umbrella"));
    let (writer, verifier) = (writer(config.clone()), verifier(config));
    for (text, kind) in [
        (" \n".to_owned(), "source-empty"),
        ("\"\"".to_owned(), "source-empty"),
        ("word ".repeat(500), "source-too-long"),
    ] {
        let source = SourceCaption {
            text,
            ..source(None)
        };
        let gate = QualityGate::default();
        let rejected = p1_caption(&source, &writer, &verifier, &gate).unwrap_err();
        assert_eq!(rejected.reason.kind(), kind, "{rejected}");
        let pair = VqaPair {
            question_id: 1,
            image: source.image.clone(),
            question: "Is it day?".to_owned(),
            answer: "no".to_owned(),
        };
        let rejected = p2_caption(&source, &pair, &writer, &gate).unwrap_err();
        assert_eq!(rejected.reason.kind(), kind, "{rejected}");
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn p2_works_a_no_into_the_caption() {
    let (config, seen) =
        serve(|_| Act::Say("A man \"rides\" a horse that is not brown on a beach."));
    let source = source(None);
    let pair = VqaPair {
        question_id: 1,
        image: source.image.clone(),
        question: "Is the horse brown?".to_owned(),
        answer: "no".to_owned(),
    };
    let kept = p2_caption(&source, &pair, &writer(config), &QualityGate::default()).unwrap();
    assert_eq!(kept.question.as_deref(), Some("Is the horse brown?"));
    let asked = asked(&seen.lock().unwrap()[0]);
    assert!(asked.contains("Is the horse brown?\nAnswer: no"), "{asked}");
}

#[test]
fn the_same_request_is_paid_for_once() {
    let (config, seen) = serve(|body| match asked(body) {
        text if text.contains("zebra") => Act::Status(400),
        _ => {
            thread::sleep(Duration::from_millis(30));
            Act::Say("umbrella")
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let cache = AnswerCache::open(folder.path()).unwrap();
        let known = cache.len();
        let client = Arc::new(ChatClient::new(config.clone()).unwrap().cache(cache));
        let prompts = Arc::new(Prompts::built_in().unwrap());
        (known, Arc::clone(&client), ChatWriter::new(client, prompts))
    };
    let (known, first, writer) = open();
    assert_eq!(known, 0);
    // Eight threads with the same caption at the same time.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert_eq!(
                    writer.name_absent_object(&source(None)).unwrap(),
                    "umbrella"
                )
            });
        }
    });
    assert_eq!(seen.lock().unwrap().len(), 1);
    let spent = first.spent();
    assert_eq!(
        (spent.requests, spent.cached, spent.prompt_tokens),
        (1, 7, 40)
    );
    // A failure is not kept.
    let zebra = SourceCaption {
        text: "a zebra".to_owned(),
        ..source(None)
    };
    assert!(writer.name_absent_object(&zebra).is_err());
    assert!(writer.name_absent_object(&zebra).is_err());
    assert_eq!(seen.lock().unwrap().len(), 3);

    // A second run side by side, and one after both were killed within a line.
    let (known, second, other) = open();
    assert_eq!(known, 1);
    other.name_absent_object(&source(None)).unwrap();
    let another = SourceCaption {
        text: "a cat".to_owned(),
        ..source(None)
    };
    other.name_absent_object(&another).unwrap();
    assert_eq!(second.spent().requests, 1);
    let files = |name: &str| folder.path().join(name);
    assert!(files("answers-1.jsonl").is_file() && files("answers-2.jsonl").is_file());
    drop((first, writer, second, other));
    for name in ["answers-1.jsonl", "answers-2.jsonl"] {
        let mut text = std::fs::read(files(name)).unwrap();
        text.extend(b"{\"request\": \"00");
        std::fs::write(files(name), text).unwrap();
    }
    let (known, third, writer) = open();
    assert_eq!(known, 2);
    writer.name_absent_object(&another).unwrap();
    writer.name_absent_object(&source(None)).unwrap();
    assert_eq!((third.spent().requests, third.spent().cached), (0, 2));
    // Damage within a file is named, and nothing is paid for twice because of it.
    drop((third, writer));
    std::fs::write(files("answers-2.jsonl"), "nonsense\n{}\n").unwrap();
    let error = AnswerCache::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("answers-2.jsonl") && error.contains("line 1"),
        "{error}"
    );
}
