//! Readers of what encoders are measured on: damaged and odd files, and the published ones.

use std::fs;
use std::path::PathBuf;

use negkit_data::celeba::{Attributes, Partition};
use negkit_data::coco::Instances;
use negkit_data::foils::read_caption_pairs;
use negkit_data::karpathy::read_karpathy;
use negkit_data::negbench::{CaptionType, read_multiple_choice, read_retrieval};
use negkit_data::negrefcocog::{BoxFilter, make_neg_refcocog};
use negkit_data::zero_shot::{LabelledPictures, SynsetOrder, read_class_names, read_templates};
use negkit_data::{PictureFolder, WordList};
use negkit_shared_data::shared;
use serde_json::json;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

/// The message must hold all parts.
fn holds(error: &dyn std::fmt::Display, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
}

const HEADER: &str =
    "image_path,correct_answer,caption_0,caption_1,caption_2,caption_3,correct_answer_template\n";

#[test]
fn questions_whose_right_answer_is_not_the_first_are_refused() {
    let folder = Folder::new();
    let file = |line: &str| folder.write("mcq.csv", &format!("{HEADER}{line}"));
    let good = read_multiple_choice(&file("a/1.jpg,0,\"a, b\",c,d,e,hybrid\n")).unwrap();
    assert_eq!(good[0].captions, ["a, b", "c", "d", "e"]);
    assert_eq!(good[0].right, CaptionType::Hybrid);
    for (line, parts) in [
        (
            "1.jpg,1,a,b,c,d,hybrid\n",
            ["line 2", "correct_answer", "found \"1\""],
        ),
        (
            "1.jpg,0,a,b,c,d,other\n",
            ["line 2", "correct_answer_template", "other"],
        ),
        (
            "1.jpg,0,a,,c,d,hybrid\n",
            ["line 2", "caption_1", "found none"],
        ),
        ("1.jpg,0,a,b\n", ["line 2", "CSV", "found record"]),
    ] {
        holds(&read_multiple_choice(&file(line)).unwrap_err(), &parts);
    }
    let error = read_multiple_choice(&folder.write("x.csv", "a,b\n")).unwrap_err();
    holds(&error, &["image_path or filepath", "found a, b"]);
}

#[test]
fn the_published_questions_are_read() {
    let Some(path) = shared("negbench/COCO_val_mcq_llama3.1_rephrased.csv") else {
        return;
    };
    let questions = read_multiple_choice(&path).unwrap();
    assert_eq!(questions.len(), 5914);
    let of = |kind| questions.iter().filter(|q| q.right == kind).count();
    assert_eq!(CaptionType::ALL.map(of), [2032, 1870, 2012]);
    assert_eq!(
        questions[0].image,
        "data/coco/images/val2017/000000397133.jpg"
    );
}

#[test]
fn captions_in_pythons_form_are_read_and_nothing_is_executed() {
    let folder = Folder::new();
    let text = "filepath,captions\na/1.jpg,\"['no dog', \"\"it's a cat\"\"]\"\n";
    let read = read_retrieval(&folder.write("a.csv", text)).unwrap();
    assert_eq!(read[0].captions, ["no dog", "it's a cat"]);
    for bad in ["__import__('os')", "[]", "['']", "['a'"] {
        let path = folder.write("b.csv", &format!("filepath,captions\n1.jpg,\"{bad}\"\n"));
        holds(&read_retrieval(&path).unwrap_err(), &["line 2", "captions"]);
    }
}

#[test]
fn caption_pairs_come_in_several_forms() {
    let folder = Folder::new();
    let json = json!([{"image_path": "1.jpg", "caption": "a", "negative_caption": "no a"}]);
    let from_json = read_caption_pairs(&folder.write("a.json", &json.to_string())).unwrap();
    let lines = format!("{}\n", json[0]);
    assert_eq!(
        read_caption_pairs(&folder.write("a.jsonl", &lines)).unwrap(),
        from_json
    );
    let csv = "filepath,caption,negated_caption\n1.jpg,a,no a\n";
    assert_eq!(
        read_caption_pairs(&folder.write("a.csv", csv)).unwrap(),
        from_json
    );
    let empty = "filepath,caption,negated_caption\n1.jpg,a,\n";
    let error = read_caption_pairs(&folder.write("b.csv", empty)).unwrap_err();
    holds(&error, &["[0]", "negated_caption"]);
    let error = read_caption_pairs(&folder.write("c.pt", "no archive")).unwrap_err();
    holds(&error, &["torch.save"]);
}

#[test]
fn a_pickle_that_calls_something_is_refused() {
    use std::io::Write as _;
    let folder = Folder::new();
    let path = folder.path("evil.pt");
    let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    archive.start_file("x/data.pkl", options).unwrap();
    // os.system("true"), as pickle protocol 0 writes it.
    archive.write_all(b"cos\nsystem\n(S'true'\ntR.").unwrap();
    archive.finish().unwrap();
    holds(
        &read_caption_pairs(&path).unwrap_err(),
        &["data.pkl, byte 0"],
    );
}

#[test]
fn a_split_that_is_not_there_is_named_with_those_that_are() {
    let folder = Folder::new();
    let picture = |split: &str, id: u64| {
        json!({"filepath": "val2014", "filename": format!("{id}.jpg"), "split": split,
               "sentences": [{"raw": "a dog", "sentid": id, "tokens": []}], "cocoid": id})
    };
    let write = |images: serde_json::Value| {
        folder.write(
            "dataset_coco.json",
            &json!({"dataset": "coco", "images": images}).to_string(),
        )
    };
    let path = write(json!([picture("test", 1), picture("restval", 2)]));
    assert_eq!(read_karpathy(&path, "test").unwrap()[0].filename, "1.jpg");
    holds(
        &read_karpathy(&path, "val").unwrap_err(),
        &["\"val\"", "test, restval"],
    );
    let path = write(json!([picture("test", 1), picture("test", 1)]));
    holds(
        &read_karpathy(&path, "test").unwrap_err(),
        &["images[1]", "sentid"],
    );
    let path = folder.write("other.json", "{\"annotations\": []}");
    holds(
        &read_karpathy(&path, "test").unwrap_err(),
        &["expected a list `images`"],
    );
}

#[test]
fn class_names_and_templates_are_read_from_any_of_their_files() {
    let folder = Folder::new();
    let all = json!({"imagenet1k": ["tench", "goldfish"], "other": {"a": ["b"]}}).to_string();
    let path = folder.write("names.json", &all);
    assert_eq!(
        read_class_names(&path, "imagenet1k").unwrap(),
        ["tench", "goldfish"]
    );
    holds(
        &read_class_names(&path, "cars").unwrap_err(),
        &["cars", "imagenet1k, other"],
    );
    let path = folder.write("names.txt", "tench\n\ngoldfish\n");
    assert_eq!(read_class_names(&path, "x").unwrap(), ["tench", "goldfish"]);
    let path = folder.write("templates.txt", "a photo of a {}.\nthe {c}\n");
    assert_eq!(
        read_templates(&path, "x").unwrap(),
        ["a photo of a {c}.", "the {c}"]
    );
    let path = folder.write("bad.txt", "a photo\n");
    holds(&read_templates(&path, "x").unwrap_err(), &["[0]", "{c}"]);
}

#[test]
fn the_published_class_names_and_templates_are_read() {
    let (Some(names), Some(templates)) = (
        shared("clip-classes/en_classnames.json"),
        shared("clip-classes/en_zeroshot_classification_templates.json"),
    ) else {
        return;
    };
    assert_eq!(read_class_names(&names, "imagenet1k").unwrap().len(), 1000);
    assert_eq!(read_templates(&templates, "imagenet1k").unwrap().len(), 80);
}

#[test]
fn pictures_in_folders_and_flat_have_the_same_classes() {
    let folder = Folder::new();
    for name in [
        "n02/b.JPEG",
        "n01/a.jpg",
        "n01/c.png",
        "n01/notes.txt",
        ".hidden/x.jpg",
    ] {
        folder.write(&format!("val/{name}"), "");
    }
    let root = folder.path("val");
    let labelled = LabelledPictures::in_folders(&root, SynsetOrder::alphabetical()).unwrap();
    let names = |labelled: &LabelledPictures| -> Vec<(String, usize)> {
        let of = |(path, class): &(PathBuf, usize)| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                *class,
            )
        };
        labelled.pictures.iter().map(of).collect()
    };
    let expected = [("a.jpg", 0), ("c.png", 0), ("b.JPEG", 1)];
    assert_eq!(
        names(&labelled),
        expected.map(|(name, class)| (name.to_owned(), class))
    );
    assert_eq!(labelled.classes, ["n01", "n02"]);

    let order = folder.write(
        "LOC_synset_mapping.txt",
        "n00 nothing\nn01 a thing\nn02 another\n",
    );
    let ordered = LabelledPictures::in_folders(&root, SynsetOrder::open(&order).unwrap()).unwrap();
    assert_eq!(ordered.pictures[2].1, 2);
    let short = folder.write("short.txt", "n01 a\n");
    let error =
        LabelledPictures::in_folders(&root, SynsetOrder::open(&short).unwrap()).unwrap_err();
    holds(&error, &["n02"]);

    let flat = folder.path("flat");
    for name in [
        "ILSVRC2012_val_00000001.JPEG",
        "ILSVRC2012_val_00000002.JPEG",
    ] {
        folder.write(&format!("flat/{name}"), "");
    }
    let csv = "ImageId,PredictionString\nILSVRC2012_val_00000002,n01 1 2 3 4 n01 5 6 7 8\n\
               ILSVRC2012_val_00000001,n02 1 2 3 4\n";
    let labels = folder.write("LOC_val_solution.csv", csv);
    let found = LabelledPictures::flat(&flat, &labels, SynsetOrder::alphabetical()).unwrap();
    let expected = [
        ("ILSVRC2012_val_00000001.JPEG", 1),
        ("ILSVRC2012_val_00000002.JPEG", 0),
    ];
    assert_eq!(
        names(&found),
        expected.map(|(name, class)| (name.to_owned(), class))
    );
    // ILSVRC's own numbers are in another order than the names of the classes.
    let labels = folder.write("ILSVRC2012_validation_ground_truth.txt", "490\n361\n");
    let error = LabelledPictures::flat(&flat, &labels, SynsetOrder::alphabetical()).unwrap_err();
    holds(&error, &["line 1", "ILSVRC's own", "LOC_val_solution.csv"]);
    let empty = folder.path("empty");
    fs::create_dir(&empty).unwrap();
    let error = LabelledPictures::in_folders(&empty, SynsetOrder::alphabetical()).unwrap_err();
    holds(&error, &["empty", "a folder a class"]);
}

#[test]
fn attributes_are_read_as_celeba_writes_them() {
    let folder = Folder::new();
    let list = "2\nBald Smiling \n000001.jpg -1  1\n000002.jpg  1 -1\n";
    let path = folder.write("list_attr_celeba.txt", list);
    let mut found = Attributes::open(&path).unwrap();
    assert_eq!(found.names, ["Bald", "Smiling"]);
    assert_eq!(found.pictures[0].has, [false, true]);
    let parts = folder.write("parts.txt", "000001.jpg 0\n000002.jpg 2\n");
    found.keep(Partition::Test, &parts).unwrap();
    assert_eq!(found.pictures.len(), 1);
    assert_eq!(found.pictures[0].file, "000002.jpg");
    for (text, parts) in [
        ("x\nA\n", ["line 1", "number of pictures"]),
        ("1\nA\n1.jpg 0\n", ["line 3, field `A`", "found \"0\""]),
        (
            "1\nA B\n1.jpg 1\n",
            ["line 3", "expected 2 values, found 1"],
        ),
        ("2\nA\n1.jpg 1\n", ["whole file", "expected 2 pictures"]),
    ] {
        holds(
            &Attributes::open(&folder.write("bad.txt", text)).unwrap_err(),
            &parts,
        );
    }
    let parts = folder.write("short.txt", "000001.jpg 0\n");
    let mut found = Attributes::open(&path).unwrap();
    holds(
        &found.keep(Partition::Test, &parts).unwrap_err(),
        &["000002.jpg"],
    );
}

#[test]
fn pictures_are_found_by_the_ends_of_their_paths() {
    let folder = Folder::new();
    folder.write("val2017/1.jpg", "");
    folder.write("2.jpg", "");
    let pictures = PictureFolder::new(folder.0.path());
    let named = "data/coco/images/val2017/1.jpg";
    assert_eq!(pictures.find(named), folder.path("val2017/1.jpg"));
    assert_eq!(pictures.find("C:\\data\\2.jpg"), folder.path("2.jpg"));
    assert_eq!(pictures.find("/etc/../../2.jpg"), folder.path("2.jpg"));
    assert_eq!(pictures.find("val2017/3.jpg"), folder.path("3.jpg"));
}

/// Four instances of one category and a crowd, in a picture of 640 x 480.
fn instances(folder: &Folder) -> PathBuf {
    let instance = |id: u64, bbox: [f64; 4], category: u64, crowd: u8| {
        json!({"id": id, "image_id": 7, "category_id": category, "bbox": bbox, "iscrowd": crowd,
               "segmentation": [[0., 0., 5., 0., 5., 5.]]})
    };
    let value = json!({
        "images": [{"id": 7, "file_name": "COCO_train2014_000000000007.jpg", "width": 640, "height": 480}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": [
            instance(1, [400., 100., 120., 200.], 1, 0),
            instance(2, [10., 200., 100., 180.], 1, 0),
            instance(3, [20., 20., 110., 190.], 1, 0),
            instance(4, [0., 0., 300., 300.], 1, 1),
            instance(5, [20., 20., 120., 200.], 2, 0),
        ],
    });
    folder.write("instances.json", &value.to_string())
}

fn references(folder: &Folder, references: &[(u64, u64, &[&str])]) -> PathBuf {
    let mut next = 0;
    let records: Vec<serde_json::Value> = references
        .iter()
        .map(|(ann, category, texts)| {
            let sentences: Vec<serde_json::Value> = texts
                .iter()
                .map(|text| {
                    next += 1;
                    json!({"tokens": [], "raw": text, "sent": text, "sent_id": next})
                })
                .collect();
            let ids: Vec<&serde_json::Value> = sentences.iter().map(|s| &s["sent_id"]).collect();
            json!({"image_id": 7, "split": "val", "sent_ids": ids, "sentences": sentences,
                   "file_name": "x.jpg", "category_id": category, "ann_id": ann, "ref_id": ann})
        })
        .collect();
    folder.write("refs.json", &json!(records).to_string())
}

#[test]
fn a_negrefcocog_is_made_of_references_and_instances() {
    let folder = Folder::new();
    let instances = instances(&folder);
    assert_eq!(Instances::open(&instances).unwrap().instances.len(), 5);
    let file = references(
        &folder,
        &[
            (
                1,
                1,
                &["the man without a hat", "the tall man", "man with NO hat"],
            ),
            (5, 2, &["the dog that is not brown"]),
        ],
    );
    let words = WordList::default();
    let make = |split, filter: &BoxFilter| {
        make_neg_refcocog(&file, &instances, split, &words, filter).unwrap()
    };
    let (items, tally) = make(None, &BoxFilter::photos());
    assert_eq!((tally.expressions, tally.negated), (4, 3));
    assert_eq!((tally.alone, tally.unlike, tally.items), (1, 0, 2));
    assert_eq!(items[0].phrase, "the man without a hat");
    assert_eq!(items[1].phrase, "man with NO hat");
    // The largest of the others that fits, never the crowd; both a hundred pixels larger to every side.
    assert_eq!(items[0].ref_bbox, [300., 0., 320., 400.]);
    assert_eq!(
        items[0].bbox_list,
        [[300., 0., 320., 400.], [0., 0., 230., 310.]]
    );
    // What is written is what the reader of the published file takes.
    let path = folder.write("made.json", &serde_json::to_string(&items).unwrap());
    assert_eq!(negkit_data::foils::read_neg_refcocog(&path).unwrap(), items);

    let strict = BoxFilter {
        least_share: 0.5,
        ..BoxFilter::photos()
    };
    assert_eq!(make(None, &strict).1.unlike, 2);
    assert_eq!(
        make(Some("test"), &BoxFilter::photos()).1,
        Default::default()
    );

    let file = references(&folder, &[(9, 1, &["no one"])]);
    let error = make_neg_refcocog(&file, &instances, None, &words, &BoxFilter::photos());
    holds(&error.unwrap_err(), &["[0]", "ann_id", "found 9"]);
}
