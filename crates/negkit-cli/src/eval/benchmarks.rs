//! `negkit eval valse`, `negrefcocog`, `negbench`, `ccneg`, `coco`, `imagenet` and `celeba`: a benchmark
//! alone.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use negkit_benchmarks::{
    AttributePrompts, Benchmark, CcNeg, CelebA, NegBenchChoice, NegBenchRetrieval, NegRefCocog,
    Valse,
};
use negkit_data::PictureFolder;
use negkit_data::celeba::{Attributes, Partition};
use negkit_eval::measuring::{CocoFiles, ImageNetFiles, Scale, Table, WorldBenchmark};

use super::measure::MeasureArgs;

const ENCODERS: [&str; 3] = ["stock", "conclip", "negationclip"];

/// A file of items and the folder of their pictures.
#[derive(Args)]
pub struct ItemFiles {
    /// The published file; drawn scenes and the small models if not given.
    #[arg(long, value_name = "FILE", requires = "pictures")]
    file: Option<PathBuf>,
    /// The folder of its pictures. Paths in the file are looked for by their ends.
    #[arg(long, value_name = "FOLDER", requires = "file")]
    pictures: Option<PathBuf>,
}

impl ItemFiles {
    fn given(&self) -> Option<(&PathBuf, PictureFolder)> {
        let (file, pictures) = (self.file.as_ref()?, self.pictures.as_ref()?);
        Some((file, PictureFolder::new(pictures)))
    }
}

/// VALSE existence: a caption that says what is or is not in the picture, against its opposite.
#[derive(Args)]
pub struct ValseArgs {
    #[command(flatten)]
    files: ItemFiles,
    #[command(flatten)]
    measure: MeasureArgs,
}

/// NegRefCOCOg: which of two boxes an expression with a negation means.
///
/// `negkit data negrefcocog` makes such a file of other datasets.
#[derive(Args)]
pub struct NegRefCocogArgs {
    #[command(flatten)]
    files: ItemFiles,
    #[command(flatten)]
    measure: MeasureArgs,
}

/// NegBench: four captions to choose from, or pictures to find by captions with negations.
#[derive(Args)]
pub struct NegBenchArgs {
    /// Which of both tasks.
    #[arg(long, default_value = "mcq")]
    task: NegBenchTask,
    #[command(flatten)]
    files: ItemFiles,
    #[command(flatten)]
    measure: MeasureArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NegBenchTask {
    /// Multiple choice: a file such as COCO_val_mcq_llama3.1_rephrased.csv.
    Mcq,
    /// Retrieval: COCO_val_negated_retrieval_llama3.1_rephrased_affneg_true.csv, or
    /// COCO_val_retrieval.csv.
    Retrieval,
}

/// CC-Neg: a true caption against the same with a part of it denied.
#[derive(Args)]
pub struct CcNegArgs {
    #[command(flatten)]
    files: ItemFiles,
    /// Only so many items from the end of the file; 40,000 of CC-Neg's own .pt if not given, as its
    /// authors do, and all of other files.
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    #[command(flatten)]
    measure: MeasureArgs,
}

/// COCO retrieval, both ways: recall at 1, 5 and 10 with five captions a picture.
#[derive(Args)]
pub struct CocoArgs {
    /// dataset_coco.json (with --split), or captions_val2017.json.
    #[arg(long, value_name = "FILE", requires = "pictures")]
    captions: Option<PathBuf>,
    /// The folder of the pictures, or one that their folder is in.
    #[arg(long, value_name = "FOLDER", requires = "captions")]
    pictures: Option<PathBuf>,
    /// The split of dataset_coco.json. If not given, "test" for a file of that name, and all pictures
    /// of any other.
    #[arg(long, value_name = "SPLIT")]
    split: Option<String>,
    #[command(flatten)]
    measure: MeasureArgs,
}

/// ImageNet and its likes: zero-shot classification with one template, and with the mean over many.
#[derive(Args)]
pub struct ImageNetArgs {
    /// The pictures: a folder a class, or all in one folder with --labels.
    #[arg(long, value_name = "FOLDER", requires = "class_names")]
    pictures: Option<PathBuf>,
    /// Labels of pictures that lie in one folder: LOC_val_solution.csv, or lines of NAME NUMBER.
    #[arg(long, value_name = "FILE", requires = "pictures")]
    labels: Option<PathBuf>,
    /// The order of the classes, a synset a line (LOC_synset_mapping.txt); alphabetical if not given.
    #[arg(long, value_name = "FILE", requires = "pictures")]
    order: Option<PathBuf>,
    /// The classes' names in that order: CLIP Benchmark's en_classnames.json, a JSON list, or lines.
    #[arg(long, value_name = "FILE", requires = "pictures")]
    class_names: Option<PathBuf>,
    /// Templates whose vectors are averaged, such as CLIP Benchmark's
    /// en_zeroshot_classification_templates.json.
    #[arg(long, value_name = "FILE", requires = "pictures")]
    templates: Option<PathBuf>,
    /// The single template; "a photo of a {c}." if not given.
    #[arg(long, value_name = "TEXT", requires = "pictures")]
    template: Option<String>,
    /// The list to take of files that have several.
    #[arg(long, default_value = "imagenet1k", value_name = "NAME")]
    dataset: String,
    #[command(flatten)]
    measure: MeasureArgs,
}

/// CelebA's attributes: whether a picture has one, by a prompt that affirms it and one that denies it.
#[derive(Args)]
pub struct CelebAArgs {
    /// list_attr_celeba.txt.
    #[arg(long, value_name = "FILE", requires = "pictures")]
    attributes: Option<PathBuf>,
    /// list_eval_partition.txt; all pictures if not given.
    #[arg(long, value_name = "FILE", requires = "attributes")]
    partition: Option<PathBuf>,
    /// The part of it.
    #[arg(long, default_value = "test")]
    split: CelebAPart,
    /// The folder of the pictures, img_align_celeba.
    #[arg(long, value_name = "FOLDER", requires = "attributes")]
    pictures: Option<PathBuf>,
    /// Prompts as JSON, two for every attribute; those that come with negkit if not given.
    #[arg(long, value_name = "FILE", requires = "attributes")]
    prompts: Option<PathBuf>,
    #[command(flatten)]
    measure: MeasureArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CelebAPart {
    Train,
    Valid,
    Test,
}

/// The benchmark of files, or that of drawn scenes where none are given.
fn run(
    measure: &MeasureArgs,
    name: &str,
    given: Option<anyhow::Result<Box<dyn Benchmark>>>,
    drawn: WorldBenchmark,
) -> anyhow::Result<()> {
    let (scale, benchmark) = match given {
        Some(benchmark) => (Scale::Paper, benchmark?),
        None => (Scale::Mini, drawn.open(measure.drawn()?)?),
    };
    measure.measure((Table::Benchmark, name), scale, vec![benchmark], &ENCODERS)
}

/// Runs `negkit eval valse`.
pub fn valse(args: &ValseArgs) -> anyhow::Result<()> {
    let open = |(file, pictures): (&PathBuf, PictureFolder)| -> anyhow::Result<Box<dyn Benchmark>> {
        Ok(Box::new(Valse::open(file, &pictures)?))
    };
    let given = args.files.given().map(open);
    run(&args.measure, "valse", given, WorldBenchmark::Valse)
}

/// Runs `negkit eval negrefcocog`.
pub fn negrefcocog(args: &NegRefCocogArgs) -> anyhow::Result<()> {
    let open = |(file, pictures): (&PathBuf, PictureFolder)| -> anyhow::Result<Box<dyn Benchmark>> {
        Ok(Box::new(NegRefCocog::open(file, &pictures)?))
    };
    let given = args.files.given().map(open);
    run(
        &args.measure,
        "negrefcocog",
        given,
        WorldBenchmark::NegRefCocog,
    )
}

/// Runs `negkit eval negbench`.
pub fn negbench(args: &NegBenchArgs) -> anyhow::Result<()> {
    let open = |(file, pictures): (&PathBuf, PictureFolder)| -> anyhow::Result<Box<dyn Benchmark>> {
        Ok(match args.task {
            NegBenchTask::Mcq => Box::new(NegBenchChoice::open(file, &pictures)?),
            NegBenchTask::Retrieval => Box::new(NegBenchRetrieval::open(file, &pictures)?),
        })
    };
    let (name, drawn) = match args.task {
        NegBenchTask::Mcq => ("negbench-mcq", WorldBenchmark::NegBenchChoice),
        NegBenchTask::Retrieval => ("negbench-retrieval", WorldBenchmark::NegBenchRetrieval),
    };
    run(&args.measure, name, args.files.given().map(open), drawn)
}

/// Runs `negkit eval ccneg`.
pub fn ccneg(args: &CcNegArgs) -> anyhow::Result<()> {
    let open = |(file, pictures): (&PathBuf, PictureFolder)| -> anyhow::Result<Box<dyn Benchmark>> {
        Ok(Box::new(CcNeg::open(file, &pictures, args.last)?))
    };
    let given = args.files.given().map(open);
    run(&args.measure, "ccneg", given, WorldBenchmark::CcNeg)
}

/// Runs `negkit eval coco`.
pub fn coco(args: &CocoArgs) -> anyhow::Result<()> {
    let open = |captions: &PathBuf| -> anyhow::Result<Box<dyn Benchmark>> {
        let pictures = args
            .pictures
            .clone()
            .context("--captions needs --pictures")?;
        let is_karpathy = captions.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("dataset_")
        });
        let split = args.split.clone();
        let files = CocoFiles {
            captions: captions.clone(),
            split: split.or(is_karpathy.then(|| "test".to_owned())),
            pictures,
        };
        Ok(files.open()?)
    };
    let given = args.captions.as_ref().map(open);
    run(&args.measure, "coco", given, WorldBenchmark::Coco)
}

/// Runs `negkit eval imagenet`.
pub fn imagenet(args: &ImageNetArgs) -> anyhow::Result<()> {
    let open = |pictures: &PathBuf| -> anyhow::Result<Box<dyn Benchmark>> {
        let names = args.class_names.clone();
        let files = ImageNetFiles {
            pictures: pictures.clone(),
            labels: args.labels.clone(),
            order: args.order.clone(),
            class_names: names.context("--pictures needs --class-names")?,
            templates: args.templates.clone(),
            template: args.template.clone(),
            dataset: args.dataset.clone(),
        };
        Ok(files.open()?)
    };
    let given = args.pictures.as_ref().map(open);
    run(&args.measure, "imagenet", given, WorldBenchmark::ImageNet)
}

/// Runs `negkit eval celeba`.
pub fn celeba(args: &CelebAArgs) -> anyhow::Result<()> {
    let open = |list: &PathBuf| -> anyhow::Result<Box<dyn Benchmark>> {
        let pictures = args
            .pictures
            .as_ref()
            .context("--attributes needs --pictures")?;
        let mut attributes = Attributes::open(list)?;
        let mut files = vec![list.as_path()];
        if let Some(partition) = &args.partition {
            let part = match args.split {
                CelebAPart::Train => Partition::Train,
                CelebAPart::Valid => Partition::Valid,
                CelebAPart::Test => Partition::Test,
            };
            attributes.keep(part, partition)?;
            files.push(partition);
        }
        let prompts = match &args.prompts {
            Some(path) => {
                files.push(path);
                AttributePrompts::open(path)?
            }
            None => AttributePrompts::celeba()?,
        };
        let folder = PictureFolder::new(pictures);
        Ok(Box::new(CelebA::new(
            &attributes,
            &prompts,
            &folder,
            &files,
        )?))
    };
    let given = args.attributes.as_ref().map(open);
    run(&args.measure, "celeba", given, WorldBenchmark::CelebA)
}
