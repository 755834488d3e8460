//! `negkit captions`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::{Bench, Ran};

const FINALS: [&str; 5] = [
    "captions.json",
    "provenance.jsonl",
    "rejected.jsonl",
    "dead_letters.jsonl",
    "summary.json",
];

fn finals(folder: &Path) -> Vec<Vec<u8>> {
    FINALS
        .iter()
        .map(|name| fs::read(folder.join(name)).unwrap())
        .collect()
}

/// Plays writer and verifier by a rule, after a few milliseconds, and counts the requests.
fn endpoint(pause: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = format!("chat:rule@http://{}/v1", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let counted = Arc::clone(&counted);
            thread::spawn(move || answer(&stream.unwrap(), pause, &counted));
        }
    });
    (spec, count)
}

fn answer(mut stream: &TcpStream, pause: Duration, count: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        // A client that was killed sends no end.
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    count.fetch_add(1, Ordering::SeqCst);
    thread::sleep(pause);
    let body: Value = serde_json::from_slice(&body).ok()?;
    let content = &body["messages"].as_array()?.last()?["content"];
    let asked = content.as_str().or(content[1]["text"].as_str())?.to_owned();
    let words = asked.split_whitespace().count();
    let text = if asked.contains("leaves out") {
        ["umbrella", "hat", "bench", "I do not know."][words % 4].to_owned()
    } else if asked.contains("to be seen") {
        ["no", "No.", "yes", "perhaps"][content[0]["image_url"]["url"].as_str()?.len() % 4]
            .to_owned()
    } else {
        let line = |start: &str| asked.lines().find_map(|line| line.strip_prefix(start));
        format!(
            "{} with no {}",
            line("Caption: ")?,
            line("Not in the photo: ")?
        )
    };
    let message = json!({"role": "assistant", "content": text});
    let usage = json!({"prompt_tokens": words, "completion_tokens": 3});
    let reply = json!({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage});
    let reply = reply.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        reply.len()
    );
    stream.write_all((head + &reply).as_bytes()).ok()
}

/// A small drawn dataset.
fn dataset(bench: &Bench) {
    let line = "world generate --train 24 --val 2 --tifa 1 --side 32 --seed 4 --out data";
    bench.run_line(line, &[]).good();
}

const CAPTIONS: &str = "--captions data/annotations/captions_train2014.json";

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_it_never_was() {
    let bench = Bench::new();
    dataset(&bench);
    let (spec, count) = endpoint(Duration::from_millis(4));
    let line = |out: &str, cache: &str| {
        format!(
            "captions p1 {CAPTIONS} --images data/train2014 --writer {spec} --verifier {spec} \
             --concurrency 4 --out {out} {cache}"
        )
    };
    bench.run_line(&line("whole", ""), &[]).good();
    let whole = finals(&bench.path("whole"));
    let asked = count.swap(0, Ordering::SeqCst);

    let mut kills = 0;
    let mut seed = 12345u64;
    for _ in 0..60 {
        let mut child = bench
            .command(line("killed", "--cache answers").split_whitespace())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Marsaglia's xorshift: any moment of a short run.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        thread::sleep(Duration::from_millis(40 + seed % 90));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    bench
        .run_line(&line("killed", "--cache answers"), &[])
        .good();
    assert!(kills >= 3, "the run was over after {kills} kills");
    assert_eq!(finals(&bench.path("killed")), whole, "after {kills} kills");
    // What was under way at a kill is asked again, and nothing else is: of each kill at most four.
    let again = count.load(Ordering::SeqCst);
    assert!(
        again <= asked + 4 * kills,
        "{again} requests, {asked} unbroken, {kills} kills"
    );
    let records = fs::read_to_string(bench.path("killed/records.jsonl")).unwrap();
    assert_eq!(records.lines().count(), 120);

    // The cache pays for a new run.
    count.store(0, Ordering::SeqCst);
    bench
        .run_line(&line("second", "--cache answers"), &[])
        .good();
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert_eq!(finals(&bench.path("second")), whole);
}

#[test]
fn shards_dead_letters_and_a_dry_run() {
    let bench = Bench::new();
    dataset(&bench);
    let (spec, _) = endpoint(Duration::ZERO);
    let run = |more: &str| -> Ran {
        let line = format!(
            "captions p1 {CAPTIONS} --images data/train2014 --writer {spec} --verifier {spec} \
             --concurrency 4 --retries 0 {more}"
        );
        bench.run_line(&line, &[])
    };
    let told = run("--out whole --price-in 1.5 --price-out 6")
        .good()
        .stdout;
    assert!(
        told.contains("120 captions:") && told.contains(", price 0.0"),
        "{told}"
    );
    let told = run("--out whole --dry-run").good().stdout;
    assert!(
        told.contains("120 captions, 120 settled, 0 dead letters; 0 would"),
        "{told}"
    );
    let told = run("--out new --dry-run").good().stdout;
    assert!(
        told.contains("120 would be worked on") && told.contains("at most 360 requests"),
        "{told}"
    );
    assert!(!bench.path("new").exists());

    // A picture is missing for a while.
    let name = "data/train2014/COCO_train2014_000000000003.jpg";
    let (there, away) = (bench.path(name), bench.path("away.jpg"));
    fs::rename(&there, &away).unwrap();
    let told = run("--out a --shard 1/2").good().stdout;
    assert!(told.contains("60 are left to other shards"), "{told}");
    fs::rename(&away, &there).unwrap();
    let told = run("--out a --shard 1/2 --retry-failed").good().stdout;
    assert!(told.contains(", 0 dead letters"), "{told}");
    run("--out b --shard 2/2").good();
    let line = format!("captions merge merged a b {CAPTIONS}");
    bench.run_line(&line, &[]).good();
    assert_eq!(finals(&bench.path("merged")), finals(&bench.path("whole")));

    // Nobody is there.
    let line = format!(
        "captions p1 {CAPTIONS} --writer chat:m@http://127.0.0.1:9/v1 --verifier world --retries 0 \
         --most-failures 3 --concurrency 2 --out down"
    );
    bench.run_line(&line, &[]).refused(&[
        "4 items in a row failed",
        "--retry-failed",
        "127.0.0.1:9",
    ]);
    run("--out whole --seed 3").refused(&["settings.seed was 0, now 3"]);
}

#[test]
fn the_world_and_the_rules_need_no_model() {
    let bench = Bench::new();
    dataset(&bench);
    let vqa = "--questions data/vqa/v2_OpenEnded_mscoco_train2014_questions.json \
               --annotations data/vqa/v2_mscoco_train2014_annotations.json";
    for (out, line) in [
        (
            "p1",
            format!("captions p1 {CAPTIONS} --writer world --verifier world"),
        ),
        (
            "rules",
            format!("captions p1 {CAPTIONS} --writer rules --verifier world"),
        ),
        (
            "rand",
            format!("captions rand-p1 {CAPTIONS} --writer world --verifier world"),
        ),
        ("p2", format!("captions p2 {CAPTIONS} {vqa} --writer world")),
        (
            "p2r",
            format!("captions p2 {CAPTIONS} {vqa} --writer rules"),
        ),
    ] {
        let told = bench
            .run_line(&format!("{line} --out {out}"), &[])
            .good()
            .stdout;
        let summary: Value =
            serde_json::from_slice(&fs::read(bench.path(out).join("summary.json")).unwrap())
                .unwrap();
        let kept = summary["kept"].as_u64().unwrap();
        assert!(kept >= 20, "{told}");
        let written = fs::read(bench.path(out).join("captions.json")).unwrap();
        let written: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(
            written["annotations"].as_array().unwrap().len() as u64,
            kept
        );
        assert_eq!(written["images"].as_array().unwrap().len(), 24);
        // What the pipelines made can be made from again.
        let again = format!(
            "captions p1 --captions {out}/captions.json --writer rules --verifier world --scenes data/scenes.json --limit 3 --out {out}-again"
        );
        bench.run_line(&again, &[]).good();
    }
    let one =
        |spec: &str| format!("captions p1 {CAPTIONS} --writer {spec} --verifier world --out x");
    bench
        .run_line(&one("lama"), &[])
        .refused(&["'lama' is no writer", "chat:MODEL@URL"]);
    bench
        .run_line(&one("chat:lama"), &[])
        .refused(&["MODEL@URL"]);
    let line = "--images data/train2014 --writer rules --verifier onnx:x.onnx --out x";
    let line = format!("captions p1 {CAPTIONS} {line}");
    let missing = if cfg!(feature = "onnx") {
        "cannot read x.onnx"
    } else {
        "--features onnx"
    };
    bench.run_line(&line, &[]).refused(&[missing]);
    let line = line.replace("--images data/train2014", "");
    bench.run_line(&line, &[]).refused(&["--images"]);
    let line = format!(
        "captions p1 {CAPTIONS} --writer rules --verifier world --scenes none.json --out x"
    );
    bench
        .run_line(&line, &[])
        .refused(&["none.json", "--scenes"]);
    assert!(!bench.path("x").exists());
}

#[test]
fn prompts_are_written_to_be_changed() {
    let bench = Bench::new();
    dataset(&bench);
    let told = bench.run_line("captions prompts mine", &[]).good().stdout;
    assert_eq!(told.lines().count(), 4, "{told}");
    bench
        .run_line("captions prompts mine", &[])
        .refused(&["object.toml is there already"]);
    let (spec, _) = endpoint(Duration::ZERO);
    let line = |more: &str| {
        format!(
            "captions p1 {CAPTIONS} --writer {spec} --verifier world --limit 4 --out out \
             --prompts mine {more}"
        )
    };
    bench.run_line(&line(""), &[]).good();
    let path = bench.path("mine/object.toml");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("Which one thing", "Which thing");
    fs::write(&path, text).unwrap();
    bench
        .run_line(&line(""), &[])
        .refused(&["settings.writer.prompt_object_sha256"]);
    fs::write(&path, "user = '{{ captoin }}'").unwrap();
    bench
        .run_line(&line(""), &[])
        .refused(&["object.toml", "captoin"]);
}
