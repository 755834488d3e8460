//! Running the model, and reading its output.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use image::RgbImage;
use negkit_digest::sha256;
use negkit_image::{Filter, resize_rgb};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::tract_ndarray::Array4;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

use crate::DetectError;

/// Channels before those of the classes: objectness, then centre and size of the box.
const BEFORE_CLASSES: usize = 5;
/// The side for which a model without a fixed one is run.
const SIDE: usize = 352;
/// Models for larger pictures are refused: their sizes are taken for damage.
const LONGEST_SIDE: usize = 4096;

/// Left, top, right and bottom of a box, as shares of the picture's width and height.
pub type Frame = [f32; 4];

/// A box that holds something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Index of the class.
    pub class: usize,
    /// Objectness times the class's probability, 0 to 1.
    pub score: f32,
    /// Where it is; it may reach beyond the picture.
    pub frame: Frame,
}

/// What was found in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// For each class the highest score of any place in the picture.
    pub scores: Vec<f32>,
    /// Boxes after non-maximum suppression, the highest score first.
    pub boxes: Vec<Detection>,
}

/// A detector of FastestDet's form: input `[1, 3, height, width]` in BGR from 0 to 1; output
/// `[1, 5 + classes, rows, columns]` with objectness, box offsets and class probabilities.
pub struct Detector {
    model: Arc<TypedRunnableModel>,
    classes: Vec<String>,
    width: usize,
    height: usize,
    sha256: String,
    names_sha256: String,
}

impl Detector {
    /// Boxes under this score are left out.
    pub const THRESHOLD: f32 = 0.25;
    /// Of two boxes of a class that overlap more (intersection over union), one is left out.
    pub const OVERLAP: f32 = 0.45;

    /// Loads a model; `names` is a file with the classes, a line each, in their order.
    ///
    /// # Errors
    /// When a file cannot be read, the names are none, or the model is none of this form.
    pub fn open(model: &Path, names: &Path) -> Result<Self, DetectError> {
        let bytes = read(model)?;
        let names_bytes = read(names)?;
        let classes = classes(&names_bytes).map_err(|found| DetectError::Names {
            path: names.to_owned(),
            found,
        })?;
        let loaded = without_panic(|| load(&bytes));
        let (ready, width, height) = loaded.map_err(|fault| fault.of(model))?;
        let channels = BEFORE_CLASSES + classes.len();
        let output = output_shape(&ready).map_err(|fault| fault.of(model))?;
        if !matches!(output[..], [Some(1), Some(found), Some(1..), Some(1..)] if found == channels)
        {
            return Err(DetectError::Form {
                path: model.to_owned(),
                expected: format!(
                    "an output of 1 x {channels} x rows x columns ({BEFORE_CLASSES} and the {} classes \
                     of {})",
                    classes.len(),
                    names.display()
                ),
                found: sizes(&output),
            });
        }
        let runnable = without_panic(|| Ok(ready.into_runnable()?));
        Ok(Self {
            model: runnable.map_err(|fault| fault.of(model))?,
            classes,
            width,
            height,
            sha256: sha256(&bytes),
            names_sha256: sha256(&names_bytes),
        })
    }

    /// As [`open`](Self::open), with the classes in `coco.names` beside the model.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_names_beside(model: &Path) -> Result<Self, DetectError> {
        Self::open(model, &model.with_file_name("coco.names"))
    }

    /// The SHA-256 of the model's file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The SHA-256 of the file with the names.
    pub fn names_sha256(&self) -> &str {
        &self.names_sha256
    }

    /// The classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Looks at a picture.
    ///
    /// # Errors
    /// [`DetectError::Run`] when it cannot be run, or gives numbers that are not finite.
    pub fn detect(&self, picture: &RgbImage) -> Result<Found, DetectError> {
        let (width, height) = (self.width, self.height);
        let small = resize_rgb(picture, width as u32, height as u32, Filter::Bilinear)
            .map_err(|error| DetectError::Run(error.to_string()))?;
        let input = Array4::from_shape_fn((1, 3, height, width), |(_, channel, y, x)| {
            // Blue first.
            f32::from(small.get_pixel(x as u32, y as u32).0[2 - channel]) / 255.
        });
        let run = || -> TractResult<Array4<f32>> {
            let outputs = self.model.run(tvec!(input.into_tensor().into()))?;
            let output = outputs[0].to_plain_array_view::<f32>()?;
            Ok(output.to_owned().into_dimensionality()?)
        };
        let output = run().map_err(|error| DetectError::Run(format!("{error:#}")))?;
        if output.iter().any(|value| !value.is_finite()) {
            let found = "expected finite numbers of the model, found NaN or infinity";
            return Err(DetectError::Run(found.to_owned()));
        }
        Ok(decode(&output, self.classes.len()))
    }
}

/// What is wrong with a model, before its file is named.
enum Fault {
    Model(String),
    Form { expected: String, found: String },
}

impl Fault {
    fn of(self, path: &Path) -> DetectError {
        let path = path.to_owned();
        match self {
            Self::Model(reason) => DetectError::Model { path, reason },
            Self::Form { expected, found } => DetectError::Form {
                path,
                expected,
                found,
            },
        }
    }
}

impl From<TractError> for Fault {
    fn from(error: TractError) -> Self {
        // The chain names the step that failed, and the node.
        Self::Model(format!("{error:#}"))
    }
}

/// Runs `work`, a panic in which becomes a [`Fault`]: `tract` has some left for graphs that contradict
/// themselves. Nothing that `work` changes outlives it.
fn without_panic<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        let reason = said.unwrap_or_else(|| "it contradicts itself".to_owned());
        Err(Fault::Model(reason))
    })
}

/// The model, ready for inputs of one size, and their width and height.
fn load(bytes: &[u8]) -> Result<(TypedModel, usize, usize), Fault> {
    let proto = onnx().proto_model_for_read(&mut &*bytes)?;
    if let Some(output) = unmade_output(&proto) {
        return Err(Fault::Model(format!(
            "no step of it makes its output '{output}'"
        )));
    }
    let graph = onnx().model_for_proto_model(&proto)?;
    let (inputs, outputs) = (graph.inputs.len(), graph.outputs.len());
    if (inputs, outputs) != (1, 1) {
        return Err(Fault::Form {
            expected: "one input and one output".to_owned(),
            found: format!("{inputs} and {outputs}"),
        });
    }
    let (width, height) = sides(&graph)?;
    let fact = f32::fact([1, 3, height, width]);
    let ready = graph.with_input_fact(0, fact.into())?.into_optimized()?;
    Ok((ready, width, height))
}

/// An output that the graph promises and nothing makes, at which `tract` panics.
fn unmade_output(model: &ModelProto) -> Option<&str> {
    let graph = model.graph.as_ref()?;
    let steps = graph.node.iter().flat_map(|node| &node.output);
    let weights = graph.initializer.iter().map(|weights| &weights.name);
    let inputs = graph.input.iter().map(|input| &input.name);
    let made: HashSet<&String> = steps.chain(weights).chain(inputs).collect();
    let mut outputs = graph.output.iter().map(|output| &output.name);
    outputs
        .find(|name| !made.contains(name))
        .map(String::as_str)
}

/// Width and height of the input; those of FastestDet where the model leaves them open.
fn sides(graph: &InferenceModel) -> Result<(usize, usize), Fault> {
    let shape = &graph.input_fact(0)?.shape;
    let dims: Vec<Option<usize>> = shape
        .dims()
        .map(|dim| dim.concretize().and_then(|dim| dim.to_usize().ok()))
        .collect();
    let sides = match dims[..] {
        [Some(1) | None, Some(3) | None, height, width] => {
            Some((width.unwrap_or(SIDE), height.unwrap_or(SIDE)))
        }
        // The model does not even say how many dimensions there are.
        [] if shape.is_open() => Some((SIDE, SIDE)),
        _ => None,
    };
    match sides {
        Some(sides @ (1..=LONGEST_SIDE, 1..=LONGEST_SIDE)) => Ok(sides),
        _ => Err(Fault::Form {
            expected: format!(
                "an input of 1 x 3 x height x width, up to {LONGEST_SIDE} pixels each"
            ),
            found: sizes(&dims),
        }),
    }
}

/// The sizes of the output, as far as they depend on nothing.
fn output_shape(model: &TypedModel) -> Result<Vec<Option<usize>>, Fault> {
    let dims = model.output_fact(0)?.shape.dims().iter();
    Ok(dims.map(|dim| dim.to_usize().ok()).collect())
}

fn sizes(dims: &[Option<usize>]) -> String {
    let dims = dims
        .iter()
        .map(|dim| dim.map_or("?".to_owned(), |dim| dim.to_string()));
    dims.collect::<Vec<_>>().join(" x ")
}

fn read(path: &Path) -> Result<Vec<u8>, DetectError> {
    std::fs::read(path).map_err(|cause| DetectError::Read {
        path: path.to_owned(),
        cause,
    })
}

/// The classes of a file of names, or what is found instead.
fn classes(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "bytes that are no UTF-8".to_owned())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let classes: Vec<String> = lines.map(str::to_lowercase).collect();
    if classes.is_empty() {
        return Err("no line".to_owned());
    }
    let mut seen = HashSet::new();
    match classes.iter().find(|class| !seen.insert(*class)) {
        Some(class) => Err(format!("'{class}' twice")),
        None => Ok(classes),
    }
}

fn sigmoid(x: f32) -> f32 {
    1. / (1. + (-x).exp())
}

/// `handle_preds` of FastestDet's `utils/tool.py`.
fn decode(output: &Array4<f32>, classes: usize) -> Found {
    let (_, _, rows, columns) = output.dim();
    let mut scores = vec![0f32; classes];
    let mut boxes = Vec::new();
    for y in 0..rows {
        for x in 0..columns {
            let at = |channel: usize| output[[0, channel, y, x]];
            let mut best = (0, f32::MIN);
            for (class, highest) in scores.iter_mut().enumerate() {
                let score = at(0) * at(BEFORE_CLASSES + class);
                *highest = highest.max(score);
                if score > best.1 {
                    best = (class, score);
                }
            }
            let (class, score) = best;
            if score <= Detector::THRESHOLD {
                continue;
            }
            let centre_x = (x as f32 + at(1).tanh()) / columns as f32;
            let centre_y = (y as f32 + at(2).tanh()) / rows as f32;
            let (half_width, half_height) = (sigmoid(at(3)) / 2., sigmoid(at(4)) / 2.);
            boxes.push(Detection {
                class,
                score,
                frame: [
                    centre_x - half_width,
                    centre_y - half_height,
                    centre_x + half_width,
                    centre_y + half_height,
                ],
            });
        }
    }
    boxes.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for detection in boxes {
        let double = |other: &Detection| {
            other.class == detection.class && iou(other.frame, detection.frame) > Detector::OVERLAP
        };
        if !kept.iter().any(double) {
            kept.push(detection);
        }
    }
    Found {
        scores,
        boxes: kept,
    }
}

fn area(frame: Frame) -> f32 {
    (frame[2] - frame[0]) * (frame[3] - frame[1])
}

fn intersection(a: Frame, b: Frame) -> f32 {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.);
    width * height
}

/// `part` of `whole`; 0 where there is none.
fn share(part: f32, whole: f32) -> f32 {
    if whole > 0. { part / whole } else { 0. }
}

/// Intersection over union of two boxes; 0 where they have no area.
pub(crate) fn iou(a: Frame, b: Frame) -> f32 {
    let both = intersection(a, b);
    share(both, area(a) + area(b) - both)
}

/// How much of the first box lies in the second.
pub(crate) fn inside(a: Frame, b: Frame) -> f32 {
    share(intersection(a, b), area(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_decoded_by_hand() {
        // Two classes, one row of two cells: the same box twice, the second time with a lower score.
        let mut output = Array4::<f32>::zeros((1, 7, 1, 2));
        let mut set = |x: usize, values: [f32; 7]| {
            for (channel, value) in values.into_iter().enumerate() {
                output[[0, channel, 0, x]] = value;
            }
        };
        set(0, [0.9, 0.5, 0., 0., 0., 0.1, 0.8]);
        // tanh(-0.9) = -0.72: the middle of the second cell's box falls nearly on the first's.
        set(1, [0.8, -0.9, 0., 0., 0., 0.3, 0.5]);
        let found = decode(&output, 2);
        assert!((found.scores[0] - 0.24).abs() < 1e-6, "{:?}", found.scores);
        assert!((found.scores[1] - 0.72).abs() < 1e-6, "{:?}", found.scores);
        let [first] = found.boxes[..] else {
            panic!("{:?}", found.boxes);
        };
        let centre = 0.5f32.tanh() / 2.;
        assert_eq!(first.class, 1);
        let expected = [centre - 0.25, -0.25, centre + 0.25, 0.25];
        for (value, expected) in first.frame.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{:?}", first.frame);
        }
    }

    #[test]
    fn overlap_is_intersection_over_union() {
        assert_eq!(iou([0., 0., 2., 2.], [1., 1., 3., 3.]), 1. / 7.);
        assert_eq!(iou([0., 0., 1., 1.], [2., 2., 3., 3.]), 0.);
        assert_eq!(iou([0., 0., 0., 0.], [0., 0., 0., 0.]), 0.);
        assert_eq!(inside([1., 1., 3., 3.], [0., 0., 2., 5.]), 0.5);
    }
}
