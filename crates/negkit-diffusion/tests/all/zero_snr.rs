//! A schedule that ends in pure noise, as small models are trained with: every sampler that knows it
//! reaches pictures whose mean is far from that of the noise.

use candle_core::{Device, Tensor};
use negkit_diffusion::noise::{NoiseSource, TorchGenerator};
use negkit_diffusion::scheduler::{NoiseSchedule, SamplingOptions, SchedulerConfig, SchedulerKind};

const CONFIG: &str = r#"{
  "_class_name": "DPMSolverMultistepScheduler",
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "beta_start": 0.00085,
  "clip_sample": false,
  "num_train_timesteps": 1000,
  "prediction_type": "v_prediction",
  "rescale_betas_zero_snr": true,
  "set_alpha_to_one": true,
  "timestep_spacing": "trailing"
}"#;

/// What a model predicts that knows the one clean picture there is: `v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x₀`
/// with `ε = (x - sqrt(ᾱ) x₀) / sqrt(1 - ᾱ)`.
fn exact_velocity(sample: &Tensor, clean: f64, alpha: f64) -> Tensor {
    let (signal, deviation) = (alpha.sqrt(), (1. - alpha).sqrt());
    let noise = ((sample - signal * clean).unwrap() / deviation).unwrap();
    ((noise * signal).unwrap() - deviation * clean).unwrap()
}

#[test]
fn every_sampler_reaches_dark_and_bright_pictures_in_20_steps() {
    let config = SchedulerConfig::from_json(CONFIG).unwrap();
    assert_eq!(
        SchedulerConfig::from_json(&config.to_json()).unwrap(),
        config
    );
    let schedule = NoiseSchedule::from_config(&config).unwrap();
    let alphas = schedule.alphas_cumprod();
    assert_eq!(alphas.last(), Some(&0.));
    for kind in SchedulerKind::ALL {
        if kind == SchedulerKind::Pndm {
            // Knows neither the rescaled schedule nor its spacing, as in diffusers.
            continue;
        }
        for clean in [-2., 2.] {
            let mut scheduler = config.build(kind, &SamplingOptions::steps(20)).unwrap();
            let mut noise = TorchGenerator::new(3);
            let start = noise.randn(&[64]).unwrap();
            let start = Tensor::from_vec(start, (1, 4, 4, 4), &Device::Cpu).unwrap();
            let mut sample = (start * scheduler.init_noise_sigma()).unwrap();
            let source: &mut dyn NoiseSource = &mut noise;
            for (step, timestep) in scheduler.timesteps().to_vec().into_iter().enumerate() {
                let input = scheduler.scale_model_input(&sample, step).unwrap();
                let alpha = f64::from(alphas[timestep.round() as usize]);
                let velocity = exact_velocity(&input, clean, alpha);
                sample = scheduler.step(&velocity, step, &sample, source).unwrap();
            }
            let made = sample.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            // Karras' fractional timesteps are read at the nearest one, and single precision holds
            // little of a signal under a sigma of 4,096.
            let error = made.iter().map(|x| (f64::from(*x) - clean).abs());
            let error = error.fold(0., f64::max);
            assert!(error < 0.02, "{kind}, {clean}: off by {error}");
        }
    }
}
