//! The schedulers against those of diffusers, from `eval/parity/schedulers.py`.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use negkit_diffusion::noise::{NoiseSource, TorchGenerator};
use negkit_diffusion::scheduler::{
    NoiseSchedule, PredictionType, SamplingOptions, Scheduler, SchedulerConfig, SchedulerError,
    SchedulerKind,
};
use serde_json::Value;

/// Largest relative L2 error and largest absolute error of a sample after any step.
const TOLERANCE: f64 = 1e-5;
/// Largest absolute error as a fraction of the greatest value, for samples so large (over 30) that
/// `TOLERANCE` is a matter of one or two of their last bits.
const LARGE_SAMPLE_TOLERANCE: f64 = 3.3e-7;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/schedulers")
}

fn tensors(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder().join(name), &Device::Cpu).unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn published(name: &str) -> SchedulerConfig {
    SchedulerConfig::from_file(folder().join("configs").join(name)).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn numbers(value: &Value) -> Vec<f64> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|number| number.as_f64().unwrap()).collect()
}

/// The model of `eval/parity/schedulers.py`, operation by operation in f32.
fn fake_model(sample: &Tensor, timestep: f64) -> Tensor {
    let shift = (1e-4 * timestep) as f32;
    let model = |x: f32| 0.9 * x + 0.1 * x * x / (1.0 + x * x) - shift;
    let output: Vec<f32> = flat(sample).into_iter().map(model).collect();
    Tensor::from_vec(output, sample.dims(), sample.device()).unwrap()
}

#[derive(Debug, Clone, Copy, Default)]
struct Difference {
    relative_l2: f64,
    absolute: f64,
    /// The absolute error over the one that is allowed.
    share: f64,
}

impl Difference {
    fn between(found: &[f32], expected: &[f32]) -> Self {
        assert_eq!(found.len(), expected.len());
        let (mut squares, mut norm, mut absolute, mut greatest) = (0.0, 0.0, 0f64, 0f64);
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.is_finite());
            let difference = f64::from(*found) - f64::from(*expected);
            squares += difference * difference;
            norm += f64::from(*expected) * f64::from(*expected);
            absolute = absolute.max(difference.abs());
            greatest = greatest.max(f64::from(expected.abs()));
        }
        Self {
            relative_l2: (squares / norm.max(f64::MIN_POSITIVE)).sqrt(),
            absolute,
            share: absolute / TOLERANCE.max(LARGE_SAMPLE_TOLERANCE * greatest),
        }
    }

    fn worse(self, other: Self) -> Self {
        Self {
            relative_l2: self.relative_l2.max(other.relative_l2),
            absolute: self.absolute.max(other.absolute),
            share: self.share.max(other.share),
        }
    }
}

/// A run of the fixtures, built as its entry says.
struct Case {
    name: String,
    scheduler: Box<dyn Scheduler>,
    noise: Vec<TorchGenerator>,
    start: usize,
    stride: usize,
    pictures: usize,
}

impl Case {
    fn new(entry: &Value) -> Self {
        let name = entry["name"].as_str().unwrap().to_owned();
        let mut config = published(entry["config"].as_str().unwrap());
        for (field, value) in entry["set"].as_object().unwrap() {
            config = config.with(field, value.clone());
        }
        let kind: SchedulerKind = entry["kind"].as_str().unwrap().parse().unwrap();
        let options =
            SamplingOptions::steps(count(&entry["steps"])).with_eta(entry["eta"].as_f64().unwrap());
        let scheduler = config.build(kind, &options).unwrap();

        let seeds = entry["seeds"].as_array().unwrap().iter();
        let seeds: Vec<u64> = seeds.map(|seed| seed.as_u64().unwrap()).collect();
        Self {
            pictures: entry.get("pictures").map_or(seeds.len(), count),
            noise: TorchGenerator::per_picture(&seeds),
            name,
            scheduler,
            start: count(&entry["start"]),
            stride: count(&entry["stride"]),
        }
    }

    fn first_sample(&mut self) -> Tensor {
        let shape = [self.pictures, 4, 8, 8];
        let noise = self.noise.randn(&shape, DType::F32, &Device::Cpu).unwrap();
        if self.start == 0 {
            return (noise * self.scheduler.init_noise_sigma()).unwrap();
        }
        let mut generator = TorchGenerator::new(99);
        let clean = NoiseSource::randn(&mut generator, &shape, DType::F32, &Device::Cpu).unwrap();
        self.scheduler
            .add_noise(&clean, &noise, self.start)
            .unwrap()
    }

    /// The sample after each step.
    fn run(&mut self) -> Vec<Tensor> {
        let timesteps = self.scheduler.timesteps().to_vec();
        let mut sample = self.first_sample();
        let mut samples = Vec::new();
        for (step, timestep) in timesteps.into_iter().enumerate().skip(self.start) {
            let input = self.scheduler.scale_model_input(&sample, step).unwrap();
            let output = fake_model(&input, timestep);
            sample = self
                .scheduler
                .step(&output, step, &sample, &mut self.noise)
                .unwrap();
            samples.push(sample.clone());
        }
        samples
    }
}

#[test]
fn trajectories_equal_diffusers() {
    let expected = tensors("trajectories.safetensors");
    let entries = json("cases.json");
    let entries = entries.as_array().unwrap();
    assert!(entries.len() > 400, "only {} cases", entries.len());
    assert_eq!(entries.len(), expected.len());

    let mut worst: HashMap<String, (Difference, String)> = HashMap::new();
    for entry in entries {
        let mut case = Case::new(entry);
        let name = &case.name;
        let timesteps = case.scheduler.timesteps().to_vec();
        let expected_timesteps = numbers(&entry["timesteps"]);
        assert_eq!(timesteps.len(), expected_timesteps.len(), "{name}");
        for (found, expected) in timesteps.iter().zip(&expected_timesteps) {
            // Whole ones must be equal; Karras' are results of a logarithm in f32.
            let tolerance = if expected.fract() == 0.0 { 0.0 } else { 2e-4 };
            assert!(
                (found - expected).abs() <= tolerance,
                "{name}: timestep {found} instead of {expected}"
            );
        }
        let expected_sigma = entry["init_noise_sigma"].as_f64().unwrap();
        let sigma = case.scheduler.init_noise_sigma();
        assert!((sigma / expected_sigma - 1.0).abs() < 1e-6, "{name}");

        let expected = &expected[&case.name];
        let samples = case.run();
        assert_eq!(samples.len(), expected.dim(0).unwrap(), "{}", case.name);
        for (step, sample) in samples.iter().enumerate() {
            let found: Vec<f32> = flat(sample).into_iter().step_by(case.stride).collect();
            let difference = Difference::between(&found, &flat(&expected.get(step).unwrap()));
            let kind = entry["kind"].as_str().unwrap().to_owned();
            let (total, at) = worst.entry(kind).or_default();
            if difference.share > total.share {
                *at = format!("{} at step {step}", case.name);
            }
            *total = total.worse(difference);
        }
    }
    let mut lines: Vec<_> = worst.iter().collect();
    lines.sort_by_key(|(kind, _)| kind.as_str());
    for (kind, (difference, at)) in &lines {
        println!("{kind}: {difference:?}, greatest in {at}");
    }
    for (kind, (difference, at)) in lines {
        assert!(
            difference.relative_l2 <= TOLERANCE,
            "{kind}: {difference:?}"
        );
        assert!(difference.share <= 1.0, "{kind}: {difference:?} in {at}");
    }
}

#[test]
fn timesteps_equal_diffusers_for_all_numbers_of_steps() {
    let config = published("sd-1.4.json");
    for entry in json("timesteps.json").as_array().unwrap() {
        let kind: SchedulerKind = entry["kind"].as_str().unwrap().parse().unwrap();
        let config = config
            .clone()
            .with("timestep_spacing", entry["spacing"].clone());
        let excluded: Vec<usize> = entry["excluded"]
            .as_array()
            .unwrap()
            .iter()
            .map(count)
            .collect();
        let mut digest = 0u64;
        for steps in 1..=count(&entry["last"]) {
            let scheduler = config.build(kind, &SamplingOptions::steps(steps)).unwrap();
            let timesteps = scheduler.timesteps();
            for timestep in timesteps {
                // An offset of 1 takes DPM-Solver and UniPC past the last one at 999 steps.
                assert!(
                    (0.0..=1000.0).contains(timestep),
                    "{kind}, {steps}: {timestep}"
                );
            }
            if excluded.contains(&steps) {
                continue;
            }
            let weighted = timesteps.iter().zip(1u64..);
            let sum = weighted.fold(0u64, |sum, (timestep, weight)| {
                sum.wrapping_add(timestep.to_bits().wrapping_mul(weight))
            });
            digest = digest.wrapping_mul(31).wrapping_add(sum);
        }
        assert_eq!(
            format!("{digest:016x}"),
            entry["digest"].as_str().unwrap(),
            "{entry}"
        );
    }
}

#[test]
fn trailing_timesteps_are_as_many_as_the_steps() {
    // numpy.arange gives 62 elements here, the last of which becomes timestep -1 in diffusers.
    let config = published("sd-1.4.json").with("timestep_spacing", "trailing");
    for kind in SchedulerKind::ALL {
        let scheduler = config.build(kind, &SamplingOptions::steps(61)).unwrap();
        let expected = if kind == SchedulerKind::Pndm { 62 } else { 61 };
        assert_eq!(scheduler.timesteps().len(), expected, "{kind}");
    }
}

#[test]
fn noise_schedules_equal_diffusers() {
    let expected = tensors("schedule.safetensors");
    let config = published("sd-1.4.json");
    let linear = config.clone().with("beta_schedule", "linear");
    let schedules = [
        (
            "linear",
            linear.with("beta_start", 0.0001).with("beta_end", 0.02),
        ),
        ("scaled-linear", config.clone()),
        (
            "cosine",
            config.clone().with("beta_schedule", "squaredcos_cap_v2"),
        ),
        ("zero-snr", config.with("rescale_betas_zero_snr", true)),
    ];
    for (name, config) in schedules {
        let schedule = NoiseSchedule::from_config(&config).unwrap();
        let expected = flat(&expected[&format!("alphas_cumprod.{name}")]);
        assert_eq!(schedule.num_train_timesteps(), expected.len());
        let difference = Difference::between(schedule.alphas_cumprod(), &expected);
        println!("{name}: {difference:?}");
        assert!(difference.absolute <= 1.2e-7, "{name}: {difference:?}");
    }
}

#[test]
fn noise_and_velocity_of_training_equal_diffusers() {
    let expected = tensors("schedule.safetensors");
    let schedule = NoiseSchedule::from_config(&published("sd-1.4.json")).unwrap();
    let randn = |seed| {
        let mut generator = TorchGenerator::new(seed);
        NoiseSource::randn(&mut generator, &[3, 4, 2, 2], DType::F32, &Device::Cpu).unwrap()
    };
    let (clean, noise) = (randn(1), randn(2));
    let timesteps = [0, 500, 999];
    let noisy = schedule.add_noise(&clean, &noise, &timesteps).unwrap();
    let velocity = schedule.velocity(&clean, &noise, &timesteps).unwrap();
    for (found, name) in [(noisy, "add_noise"), (velocity, "velocity")] {
        let difference = Difference::between(&flat(&found), &flat(&expected[name]));
        assert!(difference.absolute <= 1e-6, "{name}: {difference:?}");
    }

    let error = schedule.add_noise(&clean, &noise, &[0, 1]).unwrap_err();
    assert!(
        matches!(
            error,
            SchedulerError::TimestepCount {
                timesteps: 2,
                batch: 3
            }
        ),
        "{error}"
    );
    let error = schedule
        .add_noise(&clean, &noise, &[0, 1, 1000])
        .unwrap_err();
    let expected = "timestep 1000 is outside of the 1000 training steps";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn the_built_in_configuration_is_the_published_one() {
    for file in ["sd-1.4.json", "sd-1.5.json"] {
        let published = published(file);
        assert_eq!(published.kind().unwrap(), SchedulerKind::Pndm);
        let built_in = SchedulerConfig::stable_diffusion_1().unwrap();
        let version = json(&format!("configs/{file}"))["_diffusers_version"].clone();
        assert_eq!(built_in.with("_diffusers_version", version), published);
    }
    let v2 = published("sd-2.1.json");
    assert_eq!(v2.kind().unwrap(), SchedulerKind::Ddim);
    assert_eq!(v2.prediction_type().unwrap(), PredictionType::VPrediction);
}

#[test]
fn a_batch_equals_its_pictures() {
    let config = published("sd-1.4.json");
    for kind in SchedulerKind::ALL {
        let eta = if kind == SchedulerKind::Ddim {
            1.0
        } else {
            0.0
        };
        let run = |seeds: &[u64]| {
            let options = SamplingOptions::steps(6).with_eta(eta);
            let mut case = Case {
                name: kind.to_string(),
                scheduler: config.build(kind, &options).unwrap(),
                noise: TorchGenerator::per_picture(seeds),
                start: 0,
                stride: 1,
                pictures: seeds.len(),
            };
            flat(case.run().last().unwrap())
        };
        let alone: Vec<f32> = [3, 4, 5].iter().flat_map(|seed| run(&[*seed])).collect();
        assert_eq!(run(&[3, 4, 5]), alone, "{kind}");
    }
}

#[test]
fn half_precision_follows_single_precision() {
    let config = published("sd-1.4.json");
    for (dtype, tolerance) in [(DType::F16, 3e-3), (DType::BF16, 3e-2), (DType::F64, 1e-6)] {
        for kind in SchedulerKind::ALL {
            let run = |dtype: DType| {
                let mut scheduler = config.build(kind, &SamplingOptions::steps(8)).unwrap();
                let mut noise = TorchGenerator::new(3);
                let shape = [1, 4, 8, 8];
                let start = NoiseSource::randn(&mut noise, &shape, dtype, &Device::Cpu).unwrap();
                let mut sample = (start * scheduler.init_noise_sigma()).unwrap();
                for (step, timestep) in scheduler.timesteps().to_vec().into_iter().enumerate() {
                    let input = scheduler.scale_model_input(&sample, step).unwrap();
                    assert_eq!(input.dtype(), dtype);
                    let output = fake_model(&input.to_dtype(DType::F32).unwrap(), timestep);
                    let output = output.to_dtype(dtype).unwrap();
                    sample = scheduler.step(&output, step, &sample, &mut noise).unwrap();
                    assert_eq!(sample.dtype(), dtype);
                }
                flat(&sample.to_dtype(DType::F32).unwrap())
            };
            let difference = Difference::between(&run(dtype), &run(DType::F32));
            assert!(
                difference.relative_l2 < tolerance,
                "{kind}, {dtype:?}: {difference:?}"
            );
        }
    }
}

#[test]
fn kinds_have_names() {
    for kind in SchedulerKind::ALL {
        assert_eq!(kind.to_string().parse::<SchedulerKind>().unwrap(), kind);
    }
    let error = "plms".parse::<SchedulerKind>().unwrap_err().to_string();
    assert!(
        error.contains("\"plms\"") && error.contains("euler-a"),
        "{error}"
    );
}

#[test]
fn numbers_of_steps_out_of_range_are_refused() {
    let config = published("sd-1.4.json");
    for kind in SchedulerKind::ALL {
        for spacing in ["leading", "linspace", "trailing"] {
            let config = config.clone().with("timestep_spacing", spacing);
            for steps in [0, 1001, usize::MAX] {
                let error = config.build(kind, &SamplingOptions::steps(steps));
                let error = error
                    .err()
                    .unwrap_or_else(|| panic!("{kind}, {spacing}, {steps}"));
                assert!(matches!(error, SchedulerError::StepCount { .. }), "{error}");
            }
        }
    }
    let config = config.with("skip_prk_steps", false);
    let error = config.build(SchedulerKind::Pndm, &SamplingOptions::steps(3));
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("in 3 steps; this configuration allows 4 to 1000"),
        "{error}"
    );
}

#[test]
fn timesteps_beyond_the_training_steps_are_refused() {
    // 1000 steps of 1 with an offset of 1 end at timestep 1000.
    let config = published("sd-1.4.json");
    for kind in [SchedulerKind::Ddim, SchedulerKind::Pndm] {
        let error = config
            .build(kind, &SamplingOptions::steps(1000))
            .err()
            .unwrap();
        assert!(
            matches!(
                error,
                SchedulerError::TimestepOutOfRange { timestep: 1000, .. }
            ),
            "{error}"
        );
    }
}

#[test]
fn unknown_classes_name_the_way_out() {
    for class in [Some("LMSDiscreteScheduler"), None] {
        let mut text = json("configs/sd-1.4.json");
        match class {
            Some(class) => text["_class_name"] = class.into(),
            None => drop(text.as_object_mut().unwrap().remove("_class_name")),
        }
        let config = SchedulerConfig::from_json(&text.to_string()).unwrap();
        let error = config.kind().unwrap_err().to_string();
        assert!(
            error.contains(class.unwrap_or("(none)")) && error.contains("unipc"),
            "{error}"
        );
        // As in diffusers, any other kind can be made from it.
        config
            .build(SchedulerKind::Euler, &SamplingOptions::steps(4))
            .unwrap();
    }
}

#[test]
fn unsupported_values_are_refused_by_name() {
    use SchedulerKind::{Ddim, DpmSolver2M, DpmSolver2MKarras, Euler, EulerAncestral, Pndm, UniPc};
    let everywhere = SchedulerKind::ALL.as_slice();
    let refused: [(&str, Value, &[SchedulerKind]); 32] = [
        ("num_train_timesteps", 1.into(), everywhere),
        ("num_train_timesteps", 1_000_000_000.into(), everywhere),
        ("num_train_timesteps", "many".into(), everywhere),
        ("beta_start", 0.0.into(), everywhere),
        ("beta_start", "small".into(), everywhere),
        ("beta_end", 1.5.into(), everywhere),
        ("beta_schedule", "laplace".into(), everywhere),
        ("beta_schedule", 3.into(), everywhere),
        ("trained_betas", vec![0.1, 0.2].into(), everywhere),
        ("trained_betas", vec![2.0; 1000].into(), everywhere),
        ("timestep_spacing", "random".into(), everywhere),
        ("steps_offset", (-1).into(), everywhere),
        ("steps_offset", 1000.into(), everywhere),
        ("prediction_type", "flow_prediction".into(), everywhere),
        ("prediction_type", "sample".into(), &[Pndm, EulerAncestral]),
        ("skip_prk_steps", "yes".into(), &[Pndm]),
        ("thresholding", true.into(), &[Ddim, DpmSolver2M, UniPc]),
        ("clip_sample_range", 0.0.into(), &[Ddim]),
        ("timestep_type", "continuous".into(), &[Euler]),
        ("interpolation_type", "cubic".into(), &[Euler]),
        (
            "final_sigmas_type",
            "one".into(),
            &[Euler, DpmSolver2M, UniPc],
        ),
        (
            "use_exponential_sigmas",
            true.into(),
            &[Euler, DpmSolver2M, UniPc],
        ),
        ("use_beta_sigmas", true.into(), &[Euler, DpmSolver2M, UniPc]),
        ("use_flow_sigmas", true.into(), &[DpmSolver2M, UniPc]),
        ("use_lu_lambdas", true.into(), &[DpmSolver2M]),
        ("algorithm_type", "sde-dpmsolver++".into(), &[DpmSolver2M]),
        ("solver_order", 4.into(), &[DpmSolver2M, UniPc]),
        ("solver_type", "rk4".into(), &[DpmSolver2M, UniPc]),
        ("lambda_min_clipped", 100.into(), &[DpmSolver2M]),
        ("predict_x0", false.into(), &[UniPc]),
        ("lower_order_final", false.into(), &[UniPc]),
        ("sigma_min", (-1).into(), &[DpmSolver2MKarras]),
    ];
    let config = published("sd-1.4.json");
    for (field, value, kinds) in refused {
        let config = config.clone().with(field, value.clone());
        for kind in SchedulerKind::ALL {
            let built = config.build(kind, &SamplingOptions::steps(20));
            // Both are one scheduler; only the Karras schedule has bounds.
            let family = match kind {
                DpmSolver2MKarras => DpmSolver2M,
                kind => kind,
            };
            if !kinds.contains(&kind) && !kinds.contains(&family) {
                assert!(built.is_ok(), "{kind} refuses {field} = {value}");
                continue;
            }
            let error = built
                .err()
                .unwrap_or_else(|| panic!("{kind} takes {field} = {value}"));
            assert!(
                matches!(&error, SchedulerError::UnsupportedValue { field: found, .. } if *found == field),
                "{kind}, {field} = {value}: {error}"
            );
            let shown: String = value.to_string().chars().take(20).collect();
            assert!(
                error.to_string().contains(&format!("{field} = {shown}")),
                "{error}"
            );
        }
    }
}

#[test]
fn eta_is_for_ddim_alone() {
    let config = published("sd-1.4.json");
    for kind in SchedulerKind::ALL {
        for eta in [1.0, -1.0, 1.5, f64::NAN, f64::INFINITY] {
            let built = config.build(kind, &SamplingOptions::steps(4).with_eta(eta));
            if kind == SchedulerKind::Ddim && eta == 1.0 {
                assert!(built.is_ok());
            } else {
                assert!(matches!(built.err().unwrap(), SchedulerError::Eta { .. }));
            }
        }
    }
}

#[test]
fn fields_of_no_interest_are_ignored() {
    let config = published("sd-1.4.json").with("a_field_of_tomorrow", vec![1, 2]);
    for kind in SchedulerKind::ALL {
        config.build(kind, &SamplingOptions::steps(4)).unwrap();
    }
}

#[test]
fn configurations_that_python_wrote_are_read() {
    let text = r#"{"_class_name": "DPMSolverMultistepScheduler", "note": "a \"-Infinity\" \\",
        "lambda_min_clipped": -Infinity, "use_karras_sigmas": true, "beta_schedule": "linear",
        "_use_default_values": ["beta_schedule"]}"#;
    let config = SchedulerConfig::from_json(text).unwrap();
    assert_eq!(config.kind().unwrap(), SchedulerKind::DpmSolver2MKarras);
    config
        .build(SchedulerKind::DpmSolver2M, &SamplingOptions::steps(4))
        .unwrap();
    let same = r#"{"_class_name": "DPMSolverMultistepScheduler", "note": "a \"-Infinity\" \\",
        "lambda_min_clipped": "-Infinity", "use_karras_sigmas": true}"#;
    assert_eq!(config, SchedulerConfig::from_json(same).unwrap());

    let nan = r#"{"beta_start": NaN}"#;
    let config = SchedulerConfig::from_json(nan).unwrap();
    let error = config
        .build(SchedulerKind::Ddim, &SamplingOptions::steps(4))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("beta_start = \"NaN\""),
        "{error}"
    );
}

#[test]
fn broken_configurations_are_errors() {
    for text in [
        "",
        "[]",
        "3",
        "{\"beta_start\": }",
        "{\"a\": \"\\",
        "\"\\é",
        "-Infinity",
    ] {
        let error = SchedulerConfig::from_json(text).unwrap_err();
        assert!(matches!(error, SchedulerError::Parse(_)), "{error}");
    }
    let error = SchedulerConfig::from_file("no/such/scheduler_config.json").unwrap_err();
    assert!(
        error.to_string().contains("no/such/scheduler_config.json"),
        "{error}"
    );
}

#[test]
fn outdated_configurations_are_patched_as_the_pipeline_does() {
    let config = SchedulerConfig::from_json(r#"{"steps_offset": 0, "clip_sample": true}"#).unwrap();
    let build = |config: &SchedulerConfig| {
        let options = SamplingOptions::steps(10);
        config
            .build(SchedulerKind::Ddim, &options)
            .unwrap()
            .timesteps()
            .to_vec()
    };
    assert_eq!(build(&config).last(), Some(&0.0));
    assert_eq!(build(&config.for_stable_diffusion()).last(), Some(&1.0));
}

#[test]
fn steps_out_of_order_and_misfits_are_errors() {
    let config = published("sd-1.4.json");
    for kind in SchedulerKind::ALL {
        let mut scheduler = config.build(kind, &SamplingOptions::steps(5)).unwrap();
        let mut noise = TorchGenerator::new(0);
        let sample = Tensor::ones((1, 4, 2, 2), DType::F32, &Device::Cpu).unwrap();
        let count = scheduler.timesteps().len();

        let error = scheduler
            .step(&sample, count, &sample, &mut noise)
            .unwrap_err();
        assert!(matches!(error, SchedulerError::StepIndex { .. }), "{error}");
        assert!(scheduler.scale_model_input(&sample, count).is_err());
        assert!(scheduler.add_noise(&sample, &sample, count).is_err());

        scheduler.step(&sample, 1, &sample, &mut noise).unwrap();
        let error = scheduler.step(&sample, 1, &sample, &mut noise).unwrap_err();
        assert!(error.to_string().contains("2 comes next"), "{error}");

        let wider = Tensor::ones((1, 4, 2, 3), DType::F32, &Device::Cpu).unwrap();
        let error = scheduler.step(&wider, 2, &sample, &mut noise).unwrap_err();
        assert!(
            error.to_string().contains("[1, 4, 2, 2] and [1, 4, 2, 3]"),
            "{error}"
        );
        assert!(scheduler.add_noise(&sample, &wider, 0).is_err());

        let whole = sample.to_dtype(DType::U8).unwrap();
        let error = scheduler.step(&whole, 2, &whole, &mut noise).unwrap_err();
        assert!(
            matches!(error, SchedulerError::DType { dtype: DType::U8 }),
            "{error}"
        );
        assert!(scheduler.scale_model_input(&whole, 2).is_err());

        // None of the refused steps has moved the run on.
        scheduler.step(&sample, 2, &sample, &mut noise).unwrap();
    }
}

#[test]
fn steps_without_finite_coefficients_are_errors() {
    // At zero signal, the noise says nothing about the clean sample.
    let config = published("sd-1.4.json").with("rescale_betas_zero_snr", true);
    let config = config.with("timestep_spacing", "trailing");
    let mut scheduler = config
        .build(SchedulerKind::Ddim, &SamplingOptions::steps(5))
        .unwrap();
    let sample = Tensor::ones((1, 4, 2, 2), DType::F32, &Device::Cpu).unwrap();
    let mut noise = TorchGenerator::new(0);
    let error = scheduler.step(&sample, 0, &sample, &mut noise).unwrap_err();
    assert!(
        matches!(error, SchedulerError::NotFinite { step: 0, .. }),
        "{error}"
    );
}

#[test]
fn generators_that_do_not_fit_the_batch_are_errors() {
    let config = published("sd-1.4.json");
    let mut scheduler = config
        .build(SchedulerKind::EulerAncestral, &SamplingOptions::steps(5))
        .unwrap();
    let sample = Tensor::ones((3, 4, 2, 2), DType::F32, &Device::Cpu).unwrap();
    let mut noise = TorchGenerator::per_picture(&[1, 2]);
    let error = scheduler.step(&sample, 0, &sample, &mut noise).unwrap_err();
    assert!(matches!(error, SchedulerError::Noise(_)), "{error}");
}
