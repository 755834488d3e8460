//! Stored answers: every form that is read, and what is said of those that cannot be.

use std::path::PathBuf;

use image::RgbImage;
use negkit_vqa::replay::{ReplayAnswerer, ReplayError, StoredAnswer};
use negkit_vqa::{Inquiry, Question, QuestionAnswerer, Refusal, RefusalReason, VqaError};
use tempfile::TempDir;

fn file(name: &str, content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn ask(stored: &ReplayAnswerer, key: Option<&str>, question: &str) -> Result<String, VqaError> {
    let inquiry = Inquiry {
        picture: &RgbImage::new(1, 1),
        key,
        questions: &[Question::yes_no(question)],
    };
    Ok(stored.inquire(&inquiry)?.remove(0).text)
}

fn error(name: &str, content: impl AsRef<[u8]>) -> String {
    let (_folder, path) = file(name, content);
    match ReplayAnswerer::open(path) {
        Ok(_) => panic!("it was read"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_line_of_json_is_an_answer_or_a_refusal() {
    let refused = StoredAnswer {
        picture: "b.png".into(),
        question: "is it day?".into(),
        answer: None,
        confidence: None,
        refusal: Some(Refusal {
            reason: RefusalReason::NeitherYesNorNo,
            raw: "Hard to say.".into(),
        }),
    };
    let lines = format!(
        "{}\n\n{}\n",
        r#"{"image": "a.png", "question": "is it day?", "answer": "yes", "confidence": 0.5, "more": 1}"#,
        serde_json::to_string(&refused).unwrap()
    );
    let (_folder, path) = file("answers.jsonl", lines);
    let stored = ReplayAnswerer::open(path).unwrap();
    assert_eq!(stored.len(), 2);
    let answer = stored.find("a.png", "is it day?").unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.confidence),
        ("yes", Some(0.5))
    );
    let answer = stored.find("b.png", "is it day?").unwrap();
    assert_eq!(answer.refusal, refused.refusal);
    assert_eq!(answer.text, "");
}

#[test]
fn a_table_is_read_by_its_columns() {
    let table = "answer,picture,question,confidence\n\
                 no,a.png,\"is it red, or blue?\",0.25\nyes,b.png,is it day?,\n";
    let (_folder, path) = file("answers.csv", table);
    let stored = ReplayAnswerer::open(path).unwrap();
    let answer = stored.find("a.png", "is it red, or blue?").unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.confidence),
        ("no", Some(0.25))
    );
    assert_eq!(stored.find("b.png", "is it day?").unwrap().confidence, None);
}

/// The form of `vqa_answers_release/mplug_dsg.csv`: questions with quotes and commas, some twice.
#[test]
fn the_released_answers_of_dsg_are_known_by_model_and_item() {
    let table = "\
dsg_prompt_split,qg_model,t2i_model,item_id,question,question_id,dependency_id,answer
tifa160,dsg,mini-dalle,tifa160_5,Is there a woman?,1,0,yes
tifa160,dsg,mini-dalle,tifa160_5,Is there a woman?,3,0,yes
tifa160,dsg,mini-dalle,tifa160_23,\"Does the word say \"\"START\"\"?\",2,1,no
tifa160,dsg,sd1dot1,tifa160_5,Is there a woman?,1,0,no
tifa160,dsg,sd1dot1,tifa160_5,Is the woman on the scooter?,6,\"3,4\",yes
";
    let (_folder, path) = file("mplug_dsg.csv", table);
    let stored = ReplayAnswerer::open(path).unwrap();
    let of = |key, question| ask(&stored, Some(key), question).unwrap();
    assert_eq!(of("mini-dalle/tifa160_5", "Is there a woman?"), "yes");
    assert_eq!(of("sd1dot1/tifa160_5", "Is there a woman?"), "no");
    let quoted = "Does the word say \"START\"?";
    assert_eq!(of("mini-dalle/tifa160_23", quoted), "no");
}

#[test]
fn a_result_of_tifa_gives_its_free_answers() {
    let result = r#"{
        "tifa_average": 0.5,
        "question_details": {
            "coco_301091": {
                "who is on the beach?": {
                    "id": "coco_301091", "choices": ["surfer", "diver"], "answer": "surfer",
                    "free_form_vqa": "surfers", "multiple_choice_vqa": "surfer", "scores": 1
                }
            }
        }
    }"#;
    let (_folder, path) = file("result.json", result);
    let stored = ReplayAnswerer::open(path).unwrap();
    let answer = ask(&stored, Some("coco_301091"), "who is on the beach?");
    assert_eq!(answer.unwrap(), "surfers");

    let said = error("r.json", result.replace("free_form_vqa", "vqa"));
    for part in [
        "line 8",
        "question_details.coco_301091.who is on the beach?",
        "`free_form_vqa`",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[test]
fn what_is_missing_is_named_with_what_is_nearest() {
    let table = "picture,question,answer\n\
                 room.png,is there a chair?,no\nroom.png,what place is it?,room\ncat.png,is it day?,yes\n";
    let (_folder, path) = file("answers.csv", table);
    let stored = ReplayAnswerer::open(&path).unwrap();
    let said = ask(&stored, Some("room.png"), "is there a chain?").unwrap_err();
    assert!(
        matches!(
            &said,
            VqaError::Replay(ReplayError::UnknownQuestion { nearest: Some(nearest), .. })
                if nearest == "is there a chair?"
        ),
        "{said}"
    );
    let said = ask(&stored, Some("rooms.png"), "is it day?")
        .unwrap_err()
        .to_string();
    for part in ["answers.csv", "'rooms.png'", "nearest is 'room.png'"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    for said in [
        ask(&stored, None, "is it day?").unwrap_err(),
        stored
            .answer(&RgbImage::new(1, 1), &["is it day?"])
            .unwrap_err(),
    ] {
        assert!(
            matches!(said, VqaError::Replay(ReplayError::NoKey)),
            "{said}"
        );
    }
    assert!(stored.answer(&RgbImage::new(1, 1), &[]).unwrap().is_empty());
    let weights = stored.info().weights;
    assert!(weights.location().ends_with("answers.csv"));
}

#[test]
fn errors_name_line_and_field() {
    let line = |text: &str| error("a.jsonl", format!("{}\n{text}\n", GOOD));
    const GOOD: &str = r#"{"picture": "a", "question": "q?", "answer": "yes"}"#;
    const HEAD: &str = "picture,question,answer,confidence";
    for (said, parts) in [
        (
            line(r#"{"picture": "a", "question": 3, "answer": "yes"}"#),
            ["line 2", "'question'", "expected a string"],
        ),
        (
            line(r#"{"picture": "a", "answer": "yes"}"#),
            ["line 2", "a.jsonl", "`question`"],
        ),
        (
            line(r#"{"picture": "a", "question": "r?"}"#),
            ["line 2", "'answer'", "found neither"],
        ),
        (
            line(r#"{"picture": "a", "question": " ", "answer": "x"}"#),
            ["line 2", "'question'", "words"],
        ),
        (
            line(r#"{"picture": "a", "question": "#),
            ["line 2", "a.jsonl", "EOF"],
        ),
        (
            line(r#"{"picture": "a", "question": "q?", "answer": "no"}"#),
            ["line 2", "\"no\", and in line 1", "\"yes\""],
        ),
        (
            error("b.csv", "picture,answer\na,b\n"),
            ["line 1", "'question'", "picture, answer"],
        ),
        (
            error("b.csv", "question,answer\na,b\n"),
            ["line 1", "'picture'", "question, answer"],
        ),
        (
            error("b.csv", format!("{HEAD}\na,q?,yes,1\na,r?,yes\n")),
            ["line 3", "b.csv", "expected 4 fields"],
        ),
        (
            error("b.csv", format!("{HEAD}\na,q?,yes,high\n")),
            ["line 2", "'confidence'", "\"high\""],
        ),
        (
            error("b.csv", format!("{HEAD}\na,q?,yes,NaN\n")),
            ["line 2", "'confidence'", "NaN"],
        ),
        (
            error("b.csv", format!("{HEAD}\na,q?,,1\n")),
            ["line 2", "'answer'", "words"],
        ),
        (
            error("b.csv", b"picture,question,answer\na,\xff,yes\n"),
            ["line 2", "b.csv", "UTF-8"],
        ),
        (error("c.txt", ""), ["c.txt", ".jsonl", ".csv"]),
    ] {
        for part in parts {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }
    let said = ReplayAnswerer::open("/nowhere/a.csv")
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(said, ReplayError::Read { .. }));
}
