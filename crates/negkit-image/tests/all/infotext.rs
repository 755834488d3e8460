//! The `parameters` text: what AUTOMATIC1111's web UI writes is read, and what is written comes
//! back.

use negkit_image::{Error, GenerationParameters};
use proptest::prelude::*;

#[test]
fn a_text_of_the_web_ui_is_read() {
    let text = "a cat, (no hat:1.2)\nsecond line \n\
        Negative prompt: blurry, \"bad\"\nugly\n\
        Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 965400086, \
        Size: 512x768, Model hash: 45dee52b, Model: v1-5, Lora hashes: \"a: 12, b: 34\", \
        Version: v1.10.1";
    let parameters = GenerationParameters::parse(text);
    assert_eq!(parameters.prompt, "a cat, (no hat:1.2)\nsecond line");
    assert_eq!(parameters.negative_prompt, "blurry, \"bad\"\nugly");
    assert_eq!(parameters.steps, Some(20));
    assert_eq!(parameters.sampler.as_deref(), Some("DPM++ 2M"));
    assert_eq!(parameters.cfg_scale, Some(7.5));
    assert_eq!(parameters.seed, Some(965_400_086));
    assert_eq!(parameters.size, Some((512, 768)));
    assert_eq!(parameters.model_hash.as_deref(), Some("45dee52b"));
    assert_eq!(parameters.model.as_deref(), Some("v1-5"));
    let extra = [
        ("Schedule type", "Karras"),
        ("Lora hashes", "a: 12, b: 34"),
        ("Version", "v1.10.1"),
    ];
    assert_eq!(
        parameters.extra,
        extra.map(|(k, v)| (k.to_string(), v.to_string()))
    );
}

#[test]
fn fewer_than_three_parameters_belong_to_the_prompt() {
    for text in ["", "a cat", "a cat\nSteps: 20, Seed: 3", "note: this, that"] {
        let parameters = GenerationParameters::parse(text);
        assert_eq!(parameters.prompt, text);
        assert_eq!(
            parameters,
            GenerationParameters {
                prompt: text.into(),
                ..Default::default()
            }
        );
    }
}

#[test]
fn known_keys_with_strange_values_are_kept() {
    let parameters = GenerationParameters::parse("x\nSteps: many, Seed: -1, Size: big, Model: m");
    assert_eq!(
        (parameters.steps, parameters.seed, parameters.size),
        (None, None, None)
    );
    assert_eq!(parameters.model.as_deref(), Some("m"));
    let keys: Vec<&str> = parameters
        .extra
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(keys, ["Steps", "Seed", "Size"]);
    assert_eq!(
        GenerationParameters::parse(&parameters.format().unwrap()).extra,
        parameters.extra
    );
}

fn full() -> GenerationParameters {
    GenerationParameters {
        prompt: "a beach without people".into(),
        negative_prompt: "people".into(),
        steps: Some(50),
        sampler: Some("PNDM".into()),
        cfg_scale: Some(7.0),
        seed: Some(u64::MAX),
        size: Some((512, 640)),
        model_hash: Some("0123456789".into()),
        model: Some("C:\\sd, 1.4\n\"x\"".into()),
        extra: vec![("Text encoder".into(), String::new())],
    }
}

#[test]
fn the_layout_is_that_of_the_web_ui() {
    assert_eq!(
        full().format().unwrap(),
        "a beach without people\nNegative prompt: people\n\
         Steps: 50, Sampler: PNDM, CFG scale: 7, Seed: 18446744073709551615, Size: 512x640, \
         Model hash: 0123456789, Model: \"C:\\\\sd, 1.4\\n\\\"x\\\"\", Text encoder: \"\""
    );
    assert_eq!(
        GenerationParameters::parse(&full().format().unwrap()),
        full()
    );
    let only_prompt = GenerationParameters {
        prompt: "a cat".into(),
        ..Default::default()
    };
    assert_eq!(only_prompt.format().unwrap(), "a cat");
}

#[test]
fn what_readers_would_not_recognise_is_an_error() {
    let keys = [
        "",
        "k",
        " key",
        "-key",
        "a:b",
        "a,b",
        "a\nb",
        "na\u{ef}ve.",
        "Seed",
    ];
    for key in keys {
        let mut parameters = full();
        parameters.extra.push((key.into(), "x".into()));
        let error = parameters.format().unwrap_err();
        assert!(matches!(error, Error::Infotext { .. }), "{key:?}: {error}");
    }
    let too_few = GenerationParameters {
        steps: Some(3),
        seed: Some(1),
        ..Default::default()
    };
    assert!(too_few.format().is_err());
    let not_finite = GenerationParameters {
        cfg_scale: Some(f64::NAN),
        ..full()
    };
    assert!(not_finite.format().is_err());
}

/// What the form keeps of a prompt: no spaces at the ends of lines, no empty lines at the start.
fn kept(prompt: &str) -> String {
    let lines = prompt.split('\n').map(str::trim);
    let lines: Vec<&str> = lines.skip_while(|line| line.is_empty()).collect();
    lines.join("\n")
}

fn prompt() -> impl Strategy<Value = String> {
    "[ -~é猫\n\t]{0,60}".prop_filter("begins the negative prompt", |text| {
        !text.contains("Negative prompt:")
    })
}

prop_compose! {
    fn parameters()(
        prompt in prompt(),
        negative_prompt in prompt(),
        steps in any::<u32>(),
        sampler in prop::option::of(any::<String>()),
        cfg_scale in prop::num::f64::NORMAL,
        seed in any::<u64>(),
        size in prop::option::of(any::<(u32, u32)>()),
        model in prop::option::of("[\",:\\\\ a-c\n\r\t]{0,12}"),
        extra in prop::collection::btree_map("[a-zé_0-9][a-z /é-]{1,8}", any::<String>(), 0..4),
    ) -> GenerationParameters {
        GenerationParameters {
            prompt, negative_prompt, steps: Some(steps), sampler, cfg_scale: Some(cfg_scale),
            seed: Some(seed), size, model_hash: None, model, extra: extra.into_iter().collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_written_comes_back(parameters in parameters()) {
        let text = parameters.format().unwrap();
        let read = GenerationParameters::parse(&text);
        let expected = GenerationParameters {
            prompt: kept(&parameters.prompt),
            negative_prompt: kept(&parameters.negative_prompt),
            ..parameters
        };
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn any_text_is_read(text in any::<String>(), line in "[a-c\":, \\\\]{0,40}") {
        let _ = GenerationParameters::parse(&text);
        let _ = GenerationParameters::parse(&line);
    }
}
