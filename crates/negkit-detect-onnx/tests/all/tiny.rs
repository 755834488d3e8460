//! A detector of colours in FastestDet's form: 4 x 4 cells of a picture of 32 x 32 pixels, and a box
//! of a cell's size in each. Red is an apple, green is broccoli, blue is skis; the score is how bright
//! it is.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use negkit_data::coco::Instances;
use negkit_detect_onnx::{ClassWords, Detector, DetectorVerifier, Thresholds};
use prost::Message;
use serde_json::json;
use tempfile::TempDir;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// Objectness, centre and size of the box, and three classes.
const CHANNELS: usize = 8;

/// The folder of the model's file, which tests of other crates use too.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/tiny")
}

/// A value of the graph with these sizes.
pub fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims.iter().map(|dim| Dimension {
        value: Some(dimension::Value::DimValue(*dim)),
        ..Dimension::default()
    });
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn weights(name: &str, dims: &[i64], values: Vec<f32>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: values,
        ..TensorProto::default()
    }
}

fn node(
    operator: &str,
    inputs: &[&str],
    output: &str,
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        name: output.to_owned(),
        op_type: operator.to_owned(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

fn sides(name: &str, side: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: vec![side, side],
        ..AttributeProto::default()
    }
}

/// The model, after a change to its graph.
pub fn model(change: impl FnOnce(&mut GraphProto)) -> Vec<u8> {
    // Of blue, green and red; a class is its colour less the others.
    let colours = [[-1., -1., 1.], [-1., 1., -1.], [1., -1., -1.]];
    let mut matrix = vec![0f32; 5 * 3];
    matrix.extend(colours.iter().flatten());
    // Everywhere an object; its centre half a cell on, its sides a quarter of the picture.
    let (half, quarter) = (0.5f32.atanh(), (1f32 / 3.).ln());
    let bias = vec![1., half, half, quarter, quarter, 0., 0., 0.];
    let pool = vec![sides("kernel_shape", 8), sides("strides", 8)];
    let mut graph = GraphProto {
        name: "tiny".to_owned(),
        node: vec![
            node("AveragePool", &["picture"], "cells", pool),
            node("Conv", &["cells", "matrix", "bias"], "found", vec![]),
        ],
        initializer: vec![
            weights("matrix", &[CHANNELS as i64, 3, 1, 1], matrix),
            weights("bias", &[CHANNELS as i64], bias),
        ],
        input: vec![value("picture", &[1, 3, 32, 32])],
        output: vec![value("found", &[1, CHANNELS as i64, 4, 4])],
        ..GraphProto::default()
    };
    change(&mut graph);
    let model = ModelProto {
        ir_version: 6,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 11,
        }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

/// A black picture with cells in colours.
pub fn picture(cells: &[(u32, u32, [u8; 3])]) -> RgbImage {
    let mut picture = RgbImage::new(32, 32);
    for (column, row, colour) in cells {
        for y in 0..8 {
            for x in 0..8 {
                picture.put_pixel(column * 8 + x, row * 8 + y, Rgb(*colour));
            }
        }
    }
    picture
}

/// The verifier of the tiny model.
pub fn verifier() -> DetectorVerifier {
    let detector = Detector::open_with_names_beside(&folder().join("tiny.onnx")).unwrap();
    let words = ClassWords::coco(detector.classes()).unwrap();
    DetectorVerifier::new(detector, words, Thresholds::default()).unwrap()
}

/// Category, column, row, and whether it is a crowd. Category 1 is apple, 2 broccoli, 3 skis, 4 unicorn.
pub type Annotated = (u64, u32, u32, u8);

/// Pictures with their instances, as a dataset.
pub fn dataset(pictures: &[(RgbImage, &[Annotated])]) -> (TempDir, Instances) {
    let folder = TempDir::new().unwrap();
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for (id, (picture, instances)) in pictures.iter().enumerate() {
        let file = format!("{id}.png");
        picture.save(folder.path().join(&file)).unwrap();
        images.push(json!({"id": id, "file_name": file, "width": 32, "height": 32}));
        for (category, column, row, crowd) in *instances {
            annotations.push(json!({
                "id": annotations.len(), "image_id": id, "category_id": category,
                "segmentation": [], "iscrowd": crowd, "bbox": [column * 8, row * 8, 8, 8],
            }));
        }
    }
    let categories: Vec<_> = ["apple", "broccoli", "skis", "unicorn"]
        .iter()
        .enumerate()
        .map(|(index, name)| json!({"id": index + 1, "name": name, "supercategory": ""}))
        .collect();
    let all = json!({"images": images, "annotations": annotations, "categories": categories});
    let path = folder.path().join("instances.json");
    std::fs::write(&path, all.to_string()).unwrap();
    let instances = Instances::open(&path).unwrap();
    (folder, instances)
}

#[test]
fn the_file_of_the_tiny_model_is_what_is_built_here() {
    let path = folder().join("tiny.onnx");
    let built = model(|_| {});
    if std::env::var_os("NEGKIT_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, &built).unwrap();
    }
    assert!(
        std::fs::read(&path).unwrap() == built,
        "{} is another: set NEGKIT_WRITE_FIXTURES to write it anew",
        path.display()
    );
}
