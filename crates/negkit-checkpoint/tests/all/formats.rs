//! Every file format, bit for bit against a dump in safetensors.

use candle_core::{DType, Device, Tensor};
use negkit_checkpoint::{Checkpoint, CheckpointError, ElementType, Format, OpenOptions};
use negkit_nn::TensorSource;

use crate::support::{assert_same, bits, fixture, open};

fn formats(name: &str) -> Checkpoint {
    open(&format!("formats/{name}"))
}

#[test]
fn every_type_and_layout_is_read_from_every_format_of_torch() {
    let expected = formats("expected.safetensors");
    assert_eq!(expected.format(), Format::Safetensors);
    for (name, format) in [
        ("zip.pth", Format::TorchZip),
        ("zip-protocol-1.pth", Format::TorchZip),
        ("zip-protocol-5.pth", Format::TorchZip),
        ("deflated.pth", Format::TorchZip),
        ("legacy.pth", Format::TorchLegacy),
        ("legacy-protocol-1.pth", Format::TorchLegacy),
        ("legacy-protocol-4.pth", Format::TorchLegacy),
    ] {
        let checkpoint = formats(name);
        assert_eq!(checkpoint.format(), format, "{name}");
        assert_same(&checkpoint, &expected);
    }
}

#[test]
fn the_safetensors_dump_holds_what_the_script_put_in() {
    // The one format that the others are compared with: checked against known values.
    let c = formats("expected.safetensors");
    let get = |name: &str| c.get(name).unwrap();
    assert_eq!(bits(get("ints")), [i32::MIN as i64 as u64, i32::MAX as u64]);
    assert_eq!(bits(get("position_ids")), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(bits(get("mask")), [1, 0, 0, 1, 1]);
    assert_eq!(get("empty").shape(), [0, 3]);
    assert_eq!(get("scalar").shape(), [0_usize; 0]);
    let cpu = Device::Cpu;
    let scalar = get("scalar").load(DType::F32, &cpu).unwrap();
    assert_eq!(scalar.to_scalar::<f32>().unwrap(), 2.6592);
    let base = get("base").load(DType::F32, &cpu).unwrap();
    let transposed = get("transposed").load(DType::F32, &cpu).unwrap();
    let difference = (base.t().unwrap() - transposed).unwrap().abs().unwrap();
    assert_eq!(
        difference.sum_all().unwrap().to_scalar::<f32>().unwrap(),
        0.
    );
    let types: Vec<_> = c.element_types().into_iter().collect();
    assert!(types.contains(&(ElementType::F32, 8)), "{types:?}");
    assert!(types.contains(&(ElementType::BF16, 1)), "{types:?}");
}

#[test]
fn views_that_share_a_storage_in_the_archive_share_it_here() {
    let c = formats("zip.pth");
    let base = c.get("base").unwrap();
    assert!(base.is_contiguous());
    assert!(!c.get("transposed").unwrap().is_contiguous());
    assert!(c.get("transposed").unwrap().shares_elements_with(base));
    assert!(!c.get("double").unwrap().shares_elements_with(base));
}

#[test]
fn half_precision_is_converted_exactly() {
    let c = formats("zip.pth");
    for name in ["half", "brain"] {
        let exact = c.load(name, DType::F64, &Device::Cpu).unwrap();
        let single = c.load(name, DType::F32, &Device::Cpu).unwrap();
        let difference = (exact - single.to_dtype(DType::F64).unwrap()).unwrap();
        let sum = difference.abs().unwrap().sum_all().unwrap();
        assert_eq!(sum.to_scalar::<f64>().unwrap(), 0., "{name}");
    }
    let brain = c.load("brain", DType::BF16, &Device::Cpu).unwrap();
    assert_eq!(brain.dtype(), DType::BF16);
}

#[test]
fn single_precision_is_rounded_and_half_precision_converted_to_bf16_as_candle_does() {
    let c = formats("zip.pth");
    for name in ["half", "base"] {
        let exact = c.load(name, DType::F32, &Device::Cpu).unwrap();
        let expected = exact.to_dtype(DType::BF16).unwrap();
        let found = c.load(name, DType::BF16, &Device::Cpu).unwrap();
        let values = |x: candle_core::Tensor| x.flatten_all().unwrap().to_vec1::<half::bf16>();
        assert_eq!(values(found).unwrap(), values(expected).unwrap(), "{name}");
    }
}

#[test]
fn a_hash_that_was_begun_ahead_is_the_same() {
    let c = formats("zip.pth");
    c.hash_ahead();
    assert_eq!(c.sha256().unwrap(), formats("zip.pth").sha256().unwrap());
}

#[test]
fn weights_are_found_under_every_wrapper_and_prefix() {
    let expected = formats("small.safetensors");
    for name in [
        "state_dict.pth",
        "model-module.pt",
        "model_state_dict.pt",
        "model-prefix.ckpt",
        "params.pth",
        "nested.pth",
        "lightning.ckpt",
        "lightning-legacy.ckpt",
    ] {
        assert_same(&formats(name), &expected);
    }
}

#[test]
fn scalars_beside_the_weights_are_metadata() {
    let lightning = formats("lightning.ckpt");
    assert_eq!(lightning.metadata()["global_step"], "470000");
    assert_eq!(lightning.metadata()["pytorch-lightning_version"], "1.4.2");
    assert_eq!(formats("model-module.pt").metadata()["name"], "ViT-B/32");
}

#[test]
fn averaged_weights_can_be_asked_for() {
    let plain = formats("params.pth");
    let averaged = OpenOptions::new().wrapper("params_ema");
    let averaged = averaged.open(fixture("formats/params.pth")).unwrap();
    let value = |c: &Checkpoint| {
        let b = c.load("b", DType::F32, &Device::Cpu).unwrap();
        b.to_vec1::<f32>().unwrap()[0]
    };
    assert_eq!(value(&averaged), 2. * value(&plain));
}

#[test]
fn ambiguous_weights_are_an_error_that_lists_the_choices() {
    let path = fixture("formats/ambiguous.pth");
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(
        matches!(error, CheckpointError::Ambiguous { .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains("discriminator, generator"), "{text}");

    let chosen = OpenOptions::new().wrapper("generator").open(&path).unwrap();
    assert_same(&chosen, &formats("small.safetensors"));

    let error = OpenOptions::new()
        .wrapper("weights")
        .open(&path)
        .unwrap_err();
    assert!(
        matches!(error, CheckpointError::NoSuchWrapper { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("generator"), "{error}");
}

#[test]
fn rare_ways_of_pickling_a_tensor_are_read() {
    assert_same(&formats("rare.pth"), &formats("rare.safetensors"));
}

#[test]
fn modules_are_flattened_into_dotted_names() {
    let expected = formats("module.safetensors");
    assert_same(&formats("module.pt"), &expected);
    assert_same(&formats("module-legacy.pt"), &expected);

    let scripted = formats("torchscript.pt");
    assert_eq!(scripted.format(), Format::TorchScript);
    assert_same(&scripted, &formats("torchscript.safetensors"));
    assert!(
        scripted
            .get("transformer.resblocks.1.attn.weight")
            .is_some()
    );
}

#[test]
fn shards_are_joined() {
    let expected = formats("small.safetensors");
    for (folder, format, index) in [
        (
            "sharded-safetensors",
            Format::ShardedSafetensors,
            "model.safetensors.index.json",
        ),
        (
            "sharded-bin",
            Format::ShardedTorch,
            "pytorch_model.bin.index.json",
        ),
    ] {
        for path in [
            format!("formats/{folder}"),
            format!("formats/{folder}/{index}"),
        ] {
            let checkpoint = open(&path);
            assert_eq!(checkpoint.format(), format);
            assert_eq!(checkpoint.files().len(), 3);
            assert_same(&checkpoint, &expected);
        }
    }
}

#[test]
fn damaged_indexes_are_errors_that_name_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("formats/sharded-safetensors");
    for entry in std::fs::read_dir(&source).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let index = folder.path().join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).unwrap();

    std::fs::write(&index, text.replace("\"b\":", "\"absent.weight\":")).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("absent.weight"), "{error}");

    std::fs::write(&index, text.replace("model-00001", "../model-00001")).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::Index { .. }), "{error}");
    assert!(error.to_string().contains("no plain file name"), "{error}");

    std::fs::write(&index, "{\"weight_map\": {}}").unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::Index { .. }), "{error}");

    std::fs::write(&index, text).unwrap();
    std::fs::remove_file(folder.path().join("model-00002-of-00003.safetensors")).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("model-00002-of-00003"),
        "{error}"
    );
}

#[test]
fn a_folder_gives_its_best_file() {
    let folder = tempfile::tempdir().unwrap();
    let put = |from: &str, to: &str| {
        std::fs::copy(fixture(from), folder.path().join(to)).unwrap();
    };
    let opened = |options: OpenOptions| {
        let checkpoint = options.open(folder.path())?;
        let name = checkpoint.files()[0].path().file_name().unwrap();
        Ok::<_, CheckpointError>(name.to_string_lossy().into_owned())
    };
    put("formats/small.safetensors", "config.json");

    let error = opened(OpenOptions::new()).unwrap_err();
    assert!(
        matches!(error, CheckpointError::NoWeights { .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains("found config.json"), "{text}");
    assert!(
        text.contains("diffusion_pytorch_model.safetensors"),
        "{text}"
    );

    put("formats/state_dict.pth", "diffusion_pytorch_model.fp16.bin");
    assert_eq!(
        opened(OpenOptions::new()).unwrap(),
        "diffusion_pytorch_model.fp16.bin"
    );
    put("formats/state_dict.pth", "pytorch_model.bin");
    assert_eq!(opened(OpenOptions::new()).unwrap(), "pytorch_model.bin");
    put("formats/small.safetensors", "model.safetensors");
    assert_eq!(opened(OpenOptions::new()).unwrap(), "model.safetensors");
    let half = OpenOptions::new().variant("fp16");
    assert_eq!(opened(half).unwrap(), "diffusion_pytorch_model.fp16.bin");
    let absent = opened(OpenOptions::new().variant("ema")).unwrap_err();
    assert!(
        absent.to_string().contains("model.ema.safetensors"),
        "{absent}"
    );
}

#[test]
fn what_is_no_weight_file_is_said_to_be_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for (content, said) in [
        (&b""[..], "is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
            "git lfs pull",
        ),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\0\x01\x02\x03", "starts with 00010203"),
        (b"{\"architectures\": []}", "weight_map"),
        (b"PK\x03\x04", "broken PyTorch file"),
        (b"\x80\x02}q\0.", "no magic number"),
    ] {
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, content).unwrap();
        let error = Checkpoint::open(&path).unwrap_err().to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
    let error = Checkpoint::open(folder.path().join("absent.pth")).unwrap_err();
    assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
    let error = Checkpoint::open(fixture("formats/no-tensors.pth")).unwrap_err();
    assert!(error.to_string().contains("only epoch, name"), "{error}");
    let error = Checkpoint::open(fixture("formats/sparse.pth")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"a\" is stored as sparse_tensor"),
        "{error}"
    );
}

#[test]
fn the_hash_is_that_of_sha256sum() {
    // `sha256sum` of these files.
    let c = formats("small.safetensors");
    let digest = c.sha256().unwrap().unwrap();
    let bytes = std::fs::read(fixture("formats/small.safetensors")).unwrap();
    assert_eq!(c.file_bytes(), bytes.len() as u64);
    assert_eq!(digest, SMALL_SHA256);
    assert_eq!(
        c.files()[0].sha256().unwrap(),
        digest,
        "the second call gives the first's"
    );

    let sharded = formats("sharded-bin");
    assert_eq!(sharded.sha256().unwrap().unwrap(), SHARDED_SHA256);
}

/// `sha256sum small.safetensors`
const SMALL_SHA256: &str = "e85ef9c56975b5b10183184e2d921daec01ad23c89d70eccc0a48d5058889791";
/// `sha256sum pytorch_model-* | sha256sum`, in `sharded-bin`
const SHARDED_SHA256: &str = "bdd7e2d5c09f921eddf6e350f9376270c8abb4fef0f85945f1a850e1930e1b1e";

#[test]
fn tensors_in_memory_are_a_checkpoint_too() {
    let tensor = Tensor::arange(0_f32, 6., &Device::Cpu).unwrap();
    let matrix = tensor.reshape((2, 3)).unwrap();
    let entry = |name: &str, t: &Tensor| (name.to_owned(), t.clone());
    let transposed = matrix.t().unwrap();
    let c = Checkpoint::from_tensors([entry("a", &matrix), entry("b", &transposed)]).unwrap();
    assert_eq!(c.format(), Format::Memory);
    assert_eq!(c.sha256().unwrap(), None);
    assert_eq!((c.len(), c.elements()), (2, 12));
    let b = c.load("b", DType::F32, &Device::Cpu).unwrap();
    assert_eq!(
        b.to_vec2::<f32>().unwrap(),
        transposed.to_vec2::<f32>().unwrap()
    );
    let error = c.load("c", DType::F32, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("\"c\""), "{error}");

    let twice = Checkpoint::from_tensors([entry("a", &matrix), entry("a", &matrix)]);
    assert!(matches!(twice, Err(CheckpointError::Duplicate { .. })));

    let prefixed = c.with_prefix("clip.");
    assert_eq!(prefixed.names(), ["clip.a", "clip.b"]);
    let merged = prefixed.merge(&c).unwrap();
    assert_eq!(merged.names(), ["a", "b", "clip.a", "clip.b"]);
    assert_same(&merged.strip_prefix("clip."), &c);
    assert!(matches!(
        merged.merge(&c),
        Err(CheckpointError::Duplicate { .. })
    ));
}
