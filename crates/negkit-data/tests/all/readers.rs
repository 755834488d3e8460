//! Readers against real files, against what Pythons pickle, and against files that are wrong.

use std::fs;
use std::path::{Path, PathBuf};

use negkit_data::coco::{Captions, Instances};
use negkit_data::foils::{read_neg_refcocog, read_valse};
use negkit_data::phrasecut::{PhraseCut, Split, read_skipped, read_tasks};
use negkit_data::prompts::{read_geneval, read_neg_prompts, read_tifa, read_tifa_prompts};
use negkit_data::refcoco::{RefCoco, Reference, Splitter, read_references};
use negkit_data::vqa::read_vqa;
use negkit_data::{
    DataError, Look, NeededPicture, PictureAudit, PictureFault, WordList, open_picture,
};
use negkit_shared_data::shared;
use serde_json::{Value, json};

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

fn references(path: &Path) -> Result<Vec<Reference>, DataError> {
    let mut found = Vec::new();
    read_references(path, |_, reference| {
        found.push(reference);
        Ok(())
    })?;
    Ok(found)
}

/// The error's text without the path of the file, which it must begin with or hold.
fn told(error: &DataError, path: &Path) -> String {
    let text = error.to_string();
    let name = path.display().to_string();
    assert!(text.contains(&name), "{text}");
    text.replace(&format!("{name}: "), "")
}

#[test]
fn the_published_files_have_their_known_counts() {
    if let Some(path) = shared("tifa/tifa_v1.0_text_inputs.json") {
        let prompts = read_tifa_prompts(&path).unwrap();
        assert_eq!(prompts.len(), 4081);
        assert_eq!(prompts[0].coco_val_id.as_deref(), Some("380711"));
        let sample = path.with_file_name("sample_text_inputs.json");
        let questions = path.with_file_name("sample_question_answers.json");
        let items = read_tifa(&sample, &questions).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(
            items.iter().map(|item| item.questions.len()).sum::<usize>(),
            19
        );
        assert!(
            items
                .iter()
                .flat_map(|i| &i.questions)
                .all(|q| q.choices.contains(&q.answer))
        );
        // All questions are on the sample; the other prompts get none.
        let all = read_tifa(&path, &questions).unwrap();
        assert_eq!(
            all.iter().filter(|item| !item.questions.is_empty()).count(),
            2
        );
    }
    if let Some(path) = shared("negscore/prompts_with_questions.json") {
        let prompts = read_neg_prompts(&path).unwrap();
        assert_eq!(prompts.len(), 107);
        assert_eq!(prompts[0].question2, "Is the man wearing a hat?");
    }
    if let Some(path) = shared("geneval/evaluation_metadata.jsonl") {
        let prompts = read_geneval(&path).unwrap();
        assert_eq!(prompts.len(), 553);
        let position = prompts
            .iter()
            .find(|prompt| prompt.tag == "position")
            .unwrap();
        assert!(position.include[1].position.is_some());
        assert!(prompts.iter().any(|prompt| !prompt.exclude.is_empty()));
    }
    if let Some(path) = shared("negrefcocog/NegRefCOCOg.json") {
        let items = read_neg_refcocog(&path).unwrap();
        assert_eq!(items.len(), 440);
        let words = WordList::default();
        let holding = |word| {
            items
                .iter()
                .filter(|i| WordList::new([word]).found_in(&i.phrase).is_some())
                .count()
        };
        assert!(
            items
                .iter()
                .all(|item| words.found_in(&item.phrase).is_some())
        );
        assert_eq!(
            [holding("no"), holding("not"), holding("without")],
            [143, 200, 98]
        );
    }
    if let Some(path) = shared("valse/existence.json") {
        let items = read_valse(&path).unwrap();
        assert_eq!(items.len(), 534);
        let undecidable: Vec<&str> = items
            .iter()
            .filter(|i| i.is_undecidable())
            .map(|i| i.id.as_str())
            .collect();
        assert_eq!(undecidable, ["existence_visual7w_2326438"]);
        assert_eq!(items[0].id, "existence_visual7w_2371044");
        assert_eq!(items[0].foil, "There are people in the picture.");
    }
    if let Some(path) = shared("tiny-coco/captions_val2017.json") {
        let captions = Captions::open(&path).unwrap();
        assert_eq!(
            (captions.pictures.len(), captions.captions.len()),
            (50, 250)
        );
    }
}

#[test]
fn pictures_that_are_missing_broken_or_of_another_size_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.png");
    image::RgbImage::new(6, 4).save(&good).unwrap();
    let bytes = fs::read(&good).unwrap();
    let broken = write(folder.path(), "broken.png", &bytes[..bytes.len() / 2]);
    let missing = folder.path().join("missing.png");
    assert!(open_picture(&good, Some((6, 4))).is_ok());
    let size = PictureFault::Size {
        expected: (4, 6),
        found: (6, 4),
    };
    assert_eq!(open_picture(&good, Some((4, 6))), Err(size.clone()));
    let needed = |path: &Path, size| NeededPicture {
        path: path.to_owned(),
        size,
    };
    let pictures = [
        needed(&good, Some((6, 4))),
        needed(&missing, None),
        needed(&broken, None),
        needed(&missing, None),
    ];
    let audit = PictureAudit::of(pictures.clone(), Look::Exists);
    assert_eq!((audit.needed, audit.good()), (3, 2));
    assert_eq!(audit.faults, [(missing.clone(), PictureFault::Missing)]);
    let audit = PictureAudit::of(pictures, Look::Decode);
    assert_eq!((audit.needed, audit.good()), (3, 1));
    assert_eq!(audit.faults[0].0, broken);
    assert!(
        matches!(audit.faults[0].1, PictureFault::Broken(_)),
        "{audit:?}"
    );
    assert_eq!(audit.faults[1], (missing, PictureFault::Missing));
    let changed = PictureAudit::of([needed(&good, Some((4, 6)))], Look::Decode);
    assert_eq!(changed.faults, [(good, size)]);
}

#[test]
fn photos_of_coco_are_as_its_file_says() {
    let Some(path) = shared("tiny-coco/instances_val2017.json") else {
        return;
    };
    let file = Instances::open(&path).unwrap();
    let pictures = file.pictures.values().map(|picture| NeededPicture {
        path: path.with_file_name("val2017").join(&picture.file_name),
        size: Some((picture.width, picture.height)),
    });
    let audit = PictureAudit::of(pictures, Look::Decode);
    assert_eq!((audit.needed, audit.faults), (50, vec![]));
}

fn pickles() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/pickles");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

#[test]
fn pickles_of_both_pythons_give_the_same_references() {
    let paths = pickles();
    assert_eq!(paths.len(), 3 + 6);
    for path in paths {
        let found = references(&path).unwrap();
        assert_eq!(found.len(), 2, "{}", path.display());
        let second = &found[1];
        assert_eq!((second.ref_id, second.ann_id), (1, (1 << 31) + 6));
        assert_eq!(second.split, "test");
        assert_eq!(second.sent_ids, [2, 3]);
        assert_eq!(second.sentences[0].tokens, ["no", "hat"]);
        assert_eq!(second.sentences[0].raw, "No hat");
        assert_eq!(second.sentences[1].tokens, ["the", "café"]);
        assert_eq!(second.sentences[1].raw, "the café");
        assert_eq!(second.sentences[1].sent, "the café");
        // The same as JSON.
        let folder = tempfile::tempdir().unwrap();
        let json = write(
            folder.path(),
            "refs.json",
            serde_json::to_vec(&found).unwrap(),
        );
        assert_eq!(references(&json).unwrap(), found);
    }
}

#[test]
fn a_pickle_that_breaks_off_is_an_error_at_every_length() {
    let folder = tempfile::tempdir().unwrap();
    for path in pickles() {
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() - 1 {
            let cut = write(folder.path(), "cut.p", &bytes[..length]);
            let error = references(&cut).unwrap_err();
            assert!(
                matches!(error, DataError::Damaged { .. }),
                "{length}: {error}"
            );
        }
    }
}

#[test]
fn pickles_that_call_something_are_refused_and_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("executed");
    let command = format!("touch {}", mark.display());
    for system in ["os\nsystem", "posix\nsystem", "subprocess\ncall"] {
        // What `pickle.dumps` makes of an object whose `__reduce__` gives (os.system, (command,)),
        // alone and as a record.
        let call = format!("c{system}\n(S'{command}'\ntR");
        for pickle in [format!("{call}."), format!("(l{call}a.")] {
            let path = write(folder.path(), "evil.p", pickle);
            let error = references(&path).unwrap_err();
            assert!(error.to_string().contains("evil.p"), "{error}");
        }
    }
    assert!(!mark.exists());
}

#[test]
fn pickles_of_no_sensible_shape_are_refused_before_they_are_built() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |pickle: Vec<u8>, reason: &str| {
        let path = write(folder.path(), "odd.p", pickle);
        let error = references(&path).unwrap_err();
        assert!(matches!(error, DataError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    };
    // A million lists in each other would overflow the stack when they are taken down.
    let deep = [vec![b'('; 1_000_000], vec![b'l'; 1_000_000], vec![b'.']].concat();
    refused(deep.clone(), "values nested more than 64 deep");
    refused(
        deep[..1_500_000].to_vec(),
        "values nested more than 64 deep",
    );
    let deep = [vec![b']'; 1_000_000], vec![b'a'; 999_999], vec![b'.']].concat();
    refused(deep, "values nested more than 64 deep");
    // Each list holds the one before it twice.
    let mut doubled = b"]q\x00".to_vec();
    for level in 0..60u8 {
        doubled.extend([b'(', b'h', level, b'h', level, b'l', b'q', level + 1]);
    }
    doubled.push(b'.');
    refused(doubled, "more than 134217728 values");
    // The same, hidden: the lists are filled when others hold them already.
    refused(
        b"]q\x00]q\x01h\x00ah\x00Na.".to_vec(),
        "grows after it was referred to",
    );
    refused(b"].more".to_vec(), "4 bytes after its end");
    refused(b"cos\nsystem\n(S'x'\ntR.".to_vec(), "instruction 0x63");
}

fn reference(id: u64) -> Value {
    json!({
        "image_id": 1, "split": "val", "file_name": "a_11.png", "category_id": 1, "ann_id": 11,
        "ref_id": id, "sent_ids": [id],
        "sentences": [{"tokens": ["x"], "raw": "x", "sent": "x", "sent_id": id}],
    })
}

fn instances() -> Value {
    json!({
        "info": {"year": 2014},
        "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8, "license": 3}],
        "annotations": [{
            "id": 11, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 4,
            "bbox": [1, 1, 2, 2], "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]],
        }],
        "categories": [{"id": 1, "name": "cat", "supercategory": "animal"}],
    })
}

/// A change of one place in a good file must give this error.
fn wrong(
    good: &Value,
    pointer: &str,
    value: Value,
    expected: &str,
    read: impl Fn(&Path) -> Result<(), DataError>,
) {
    let folder = tempfile::tempdir().unwrap();
    let mut changed = good.clone();
    match changed.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            changed.pointer_mut(parent).unwrap()[field] = value;
        }
    }
    let path = write(folder.path(), "file.json", changed.to_string());
    let error = told(&read(&path).unwrap_err(), &path);
    assert!(error.starts_with(expected), "{pointer}: {error}");
}

#[test]
fn errors_name_record_and_field() {
    let read = |path: &Path| references(path).map(drop);
    let good = json!([reference(5), reference(6)]);
    wrong(
        &good,
        "/1/ann_id",
        json!("x"),
        "[1], field `ann_id`: invalid type: string \"x\", expected u64",
        read,
    );
    wrong(
        &good,
        "/1/sentences/0/tokens/0",
        json!(4),
        "[1], field `sentences[0].tokens[0]`: invalid type",
        read,
    );
    wrong(
        &good,
        "/1/sentences/0/sent",
        json!(" "),
        "[1], field `sentences[0].sent`: expected words, found none",
        read,
    );
    wrong(
        &good,
        "/0/sentences",
        json!([]),
        "[0], field `sentences`: expected an expression or more",
        read,
    );
    wrong(
        &good,
        "/1/ref_id",
        json!(5),
        "[1], field `ref_id`: expected an id of its own, found 5, which [0] has",
        read,
    );
    wrong(
        &good,
        "/0/sent_ids",
        json!([9]),
        "[0], field `sent_ids`: expected the ids of the sentences, [5], found [9]",
        read,
    );
    wrong(
        &good,
        "/1",
        json!(7),
        "[1], field `(record)`: invalid type: integer `7`, expected struct Reference",
        read,
    );
    wrong(
        &json!({"a": good}),
        "/a",
        json!(1),
        "its start, field `(record)`: invalid type: map, expected a list of records",
        read,
    );

    let read = |path: &Path| Instances::open(path).map(drop);
    let mut good = instances();
    wrong(
        &good,
        "/annotations/0/segmentation/0/2",
        json!("x"),
        "annotations[0], field `segmentation[0][2]`: invalid type",
        read,
    );
    wrong(
        &good,
        "/annotations/0/segmentation",
        json!({"size": [8, 8], "counts": [3, 4]}),
        "annotations[0], field `segmentation`: COCO run-length encoding of a 8x8 mask: expected counts that add up to 64 pixels, found 2 counts that add up to 7",
        read,
    );
    wrong(
        &good,
        "/annotations/0/image_id",
        json!(2),
        "annotations[0], field `image_id`: expected the id of a picture of this file, found 2",
        read,
    );
    wrong(
        &good,
        "/images/0/width",
        json!(-1),
        "images[0], field `width`: invalid value",
        read,
    );
    wrong(
        &good,
        "/annotations",
        json!(null),
        "annotations, field `(record)`: invalid type: null, expected a list of records",
        read,
    );
    let twice = json!([good["annotations"][0], good["annotations"][0]]);
    wrong(
        &good,
        "/annotations",
        twice,
        "annotations[1], field `id`: expected an id of its own, found 11, which annotations[0] has",
        read,
    );
    good.as_object_mut().unwrap().remove("annotations");
    wrong(
        &good,
        "/info",
        json!({}),
        "the whole file, field `annotations`: expected a list `annotations`, found none",
        read,
    );

    let read = |path: &Path| read_tasks(path, |_, _| Ok(()));
    let good = json!([task("1__1"), task("1__2")]);
    wrong(
        &good,
        "/1/phrase",
        json!(""),
        "[1], field `phrase`: expected words, found none",
        read,
    );
    wrong(
        &good,
        "/1/task_id",
        json!("1__1"),
        "[1], field `task_id`: expected an id of its own, found 1__1, which [0] has",
        read,
    );
    wrong(
        &good,
        "/0/Polygons",
        json!([]),
        "[0], field `Polygons`: expected an instance or more, found none",
        read,
    );
    wrong(
        &good,
        "/0/instance_boxes",
        json!([]),
        "[0], field `Polygons`: expected one entry for each of 0 instance_boxes, found 1",
        read,
    );
    wrong(
        &good,
        "/0/Polygons/0/0/1",
        json!([1]),
        "[0], field `Polygons[0][0][1]`: invalid length 1",
        read,
    );

    let read = |path: &Path| read_neg_refcocog(path).map(drop);
    let good = json!([{"image": "a.png", "phrase": "no hat", "ref_bbox": [0, 0, 2, 2], "bbox_list": [[0, 0, 2, 2], [1, 1, 2, 2]]}]);
    wrong(
        &good,
        "/0/bbox_list/1/2",
        json!(0),
        "[0], field `bbox_list[1]`: expected a box with width and height",
        read,
    );
    wrong(
        &good,
        "/0/bbox_list/0/2",
        json!(3),
        "[0], field `bbox_list[0]`: expected ref_bbox",
        read,
    );
    wrong(
        &good,
        "/0/bbox_list",
        json!([[0, 0, 2, 2]]),
        "[0], field `bbox_list`: expected two boxes, found 1",
        read,
    );

    let read = |path: &Path| read_valse(path).map(drop);
    let good =
        json!({"one": {"dataset": "coco", "image_file": "a.png", "caption": "a", "foil": "b"}});
    wrong(
        &good,
        "/one/caption",
        json!([]),
        "\"one\", field `caption`: invalid type",
        read,
    );

    let read = |path: &Path| read_geneval(path).map(drop);
    let good = json!({"tag": "position", "prompt": "a dog", "include": [{"class": "dog", "count": 1, "position": ["left of", 0]}]});
    wrong(
        &good,
        "/prompt",
        json!("x"),
        "line 1, field `include[0].position[1]`: expected the position of another object, found 0",
        read,
    );
    wrong(
        &good,
        "/include/0/count",
        json!(-1),
        "line 1, field `include[0].count`: invalid value",
        read,
    );
}

fn task(id: &str) -> Value {
    json!({
        "task_id": id, "image_id": 1, "ann_ids": [3], "instance_boxes": [[1, 1, 3, 3]],
        "Polygons": [[[[1, 1], [3.5, 1], [3, 3.9]]]], "phrase": "red cat",
        "phrase_structure": {"name": "cat", "attributes": ["red"], "relation_ids": [],
            "relation_descriptions": [["on", "mat"]], "type": "attribute"},
    })
}

#[test]
fn damage_is_told_from_wrong_records() {
    let folder = tempfile::tempdir().unwrap();
    let good = json!([reference(5), reference(6)]).to_string();
    for length in 0..good.len() - 1 {
        let path = write(folder.path(), "cut.json", &good[..length]);
        let error = references(&path).unwrap_err();
        assert!(
            matches!(error, DataError::Damaged { .. }),
            "{length}: {error}"
        );
    }
    let path = write(folder.path(), "more.json", format!("{good} ]"));
    assert!(matches!(references(&path), Err(DataError::Damaged { .. })));
    let cut = write(folder.path(), "cut.json", &good[..good.len() - 9]);
    let error = told(&references(&cut).unwrap_err(), &cut);
    assert!(
        error.starts_with("expected JSON, found damage at [1]: EOF"),
        "{error}"
    );
    let missing = folder.path().join("none.json");
    let error = references(&missing).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot read ") && error.contains("none.json"),
        "{error}"
    );
    assert!(matches!(
        references(folder.path()),
        Err(DataError::Read { .. })
    ));
}

#[test]
fn refcoco_joins_references_with_their_objects() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut second = reference(6);
    second["split"] = json!("test");
    write(
        folder,
        "refs(umd).json",
        json!([reference(5), second]).to_string(),
    );
    write(folder, "instances.json", instances().to_string());
    let data = RefCoco::open(folder, Splitter::Umd, Some("test")).unwrap();
    assert_eq!(data.references.len(), 1);
    assert_eq!(data.mask(&data.references[0]).unwrap().area(), 4);
    assert_eq!(
        data.picture(&data.references[0]).unwrap().file_name,
        "a.png"
    );
    assert_eq!(data.by_picture()[&1].len(), 1);

    let mut lost = reference(7);
    lost["ann_id"] = json!(12);
    let path = write(
        folder,
        "refs(google).json",
        json!([reference(5), lost]).to_string(),
    );
    let error = RefCoco::open(folder, Splitter::Google, None).unwrap_err();
    assert_eq!(
        told(&error, &path),
        "[1], field `ann_id`: expected the id of an annotation of instances.json, found 12"
    );

    // A segmentation that is no mask: found when the mask is asked for, and named.
    let mut bad = instances();
    bad["annotations"][0]["segmentation"] = json!([[1, 1, 3, 3]]);
    let path = write(folder, "instances.json", bad.to_string());
    let data = RefCoco::open(folder, Splitter::Umd, None).unwrap();
    let error = data.mask(&data.references[0]).unwrap_err();
    assert_eq!(
        told(&error, &path),
        "annotation 11, field `segmentation[0]`: expected x, y of three corners or more, found 4 \
         numbers"
    );
}

#[test]
fn phrasecut_goes_by_picture_and_drops_what_clipseg_drops() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let info = |id: u64| json!({"image_id": id, "width": 8, "height": 8, "url": null, "coco_id": null, "split": "test"});
    write(
        folder,
        "image_data_split3000.json",
        json!([info(61530), info(1)]).to_string(),
    );
    let mut invalid = task("61530__1");
    invalid["image_id"] = json!(61530);
    let mut bare = task("1__2");
    bare["phrase_structure"] = json!({});
    let path = write(
        folder,
        "refer_test.json",
        json!([invalid, task("1__1"), bare]).to_string(),
    );
    let mut data = PhraseCut::open(folder, Split::Test).unwrap();
    let ids: Vec<u64> = data.pictures.iter().map(|p| p.info.image_id).collect();
    assert_eq!((ids, data.phrases()), (vec![1, 61530], 3));
    assert_eq!(data.drop_invalid(), [61530]);
    assert_eq!(data.phrases(), 2);
    let first = &data.pictures[0].tasks[0];
    assert_eq!(first.phrase_structure.as_ref().unwrap().attributes, ["red"]);
    // (1, 1), (3, 1), (3, 3): the points are truncated.
    assert_eq!(first.mask(8, 8).unwrap().area(), 6);

    let mut unknown = task("2__1");
    unknown["image_id"] = json!(2);
    fs::write(&path, json!([unknown]).to_string()).unwrap();
    let error = PhraseCut::open(folder, Split::Test).unwrap_err();
    assert_eq!(
        told(&error, &path),
        "[0], field `image_id`: expected the id of a picture of image_data_split.json, found 2"
    );
    let skip = json!([{"task_id": "1__9", "image_id": 1, "ann_ids": [], "phrase": "x", "phrase_structure": {}, "reason": "Not in Image"}]);
    let skip = write(folder, "skip.json", skip.to_string());
    assert_eq!(
        read_skipped(&skip).unwrap()[0].reason.as_deref(),
        Some("Not in Image")
    );
    let error = PhraseCut::open(&folder.join("none"), Split::Val).unwrap_err();
    assert!(matches!(error, DataError::Missing { .. }), "{error}");
}

#[test]
fn questions_and_their_answers_must_fit_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let question =
        |id: u64, image: u64| json!({"question_id": id, "image_id": image, "question": "Is it?"});
    let answer = |id: u64, image: u64, answer: &str| json!({"question_id": id, "image_id": image, "multiple_choice_answer": answer, "answers": []});
    let questions = |list: &[Value]| {
        write(
            folder,
            "q.json",
            json!({"info": {}, "questions": list}).to_string(),
        )
    };
    let annotations = |list: &[Value]| {
        write(
            folder,
            "a.json",
            json!({"annotations": list, "license": 3}).to_string(),
        )
    };
    let asked = questions(&[question(1, 7), question(2, 7), question(3, 9)]);
    let answered = annotations(&[answer(3, 9, "no"), answer(1, 7, "yes"), answer(2, 7, "no")]);
    let items = read_vqa(&asked, &answered, |answer| answer == "no").unwrap();
    let ids: Vec<_> = items
        .iter()
        .map(|item| (item.question_id, item.image_id))
        .collect();
    assert_eq!(ids, [(3, 9), (2, 7)]);
    assert_eq!(items[0].question, "Is it?");

    let failed = |answers: &[Value], part: &str| {
        let answered = annotations(answers);
        let error = read_vqa(&asked, &answered, |_| true)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part) && error.contains("a.json"), "{error}");
    };
    failed(&[answer(4, 7, "no")], "annotations[0], field `question_id`");
    failed(
        &[answer(1, 8, "no")],
        "expected 7, as the question has it, found 8",
    );
    failed(
        &[answer(1, 7, "no"), answer(1, 7, "no")],
        "which annotations[0] has",
    );
    failed(
        &[json!({"question_id": 1, "image_id": 7})],
        "multiple_choice_answer",
    );
    let none = write(folder, "a.json", "{}");
    let error = read_vqa(&asked, &none, |_| true).unwrap_err().to_string();
    assert!(error.contains("expected a list `annotations`"), "{error}");
    let twice = questions(&[question(1, 7), question(1, 7)]);
    let error = read_vqa(&twice, &none, |_| true).unwrap_err().to_string();
    assert!(
        error.contains("q.json") && error.contains("which questions[0] has"),
        "{error}"
    );
}
