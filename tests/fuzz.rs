//! Random specifications, documents and bytes, most of them invalid: each is accepted or refused with a typed error,
//! without a panic.
//!
//! `SEGLOSS_FUZZ=100` multiplies the number of trials, `SEGLOSS_SEED=42` draws others.
#![allow(missing_docs, reason = "a test's name is its claim")]

mod common;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Gpu, gpu};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use segloss::testing::cases::{CaseFile, read, run};
use segloss::{
    Absent, Activation, Alpha, Average, ClassValues, ClassWeighting, Empty, FloatType, Form, HardCounts, Head,
    LabelType, Loss, LossSpec, MeanOver, MemoryFormat, Overlap, OverlapKind, Pixel, PixelKind, Plan, Product,
    Reduction, ScalarAlpha, Target,
};
use serde_json::{Value, json};

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn trials(base: u32) -> u32 {
    base * u32::try_from(from_environment("SEGLOSS_FUZZ", 1)).expect("a small factor")
}

fn number() -> impl Strategy<Value = f32> {
    let odd = [f32::NAN, f32::INFINITY, -f32::INFINITY, -1.0, -0.0, 0.0, 1.0, 1e-40, f32::MAX, f32::MIN, 100.0, 150.0];
    prop_oneof![40 => 0.0_f32..1.0, 1 => select(odd.to_vec()), 1 => any::<u32>().prop_map(f32::from_bits)]
}

fn axis() -> impl Strategy<Value = usize> {
    let odd = [0, 255, 65_536, 1 << 20, (1 << 24) + 1, 1 << 31, 1 << 32, 1 << 48, usize::MAX / 2, usize::MAX];
    prop_oneof![24 => 1..7_usize, 1 => select(odd.to_vec())]
}

fn weights() -> impl Strategy<Value = Option<Vec<f32>>> {
    prop_oneof![8 => Just(None), 1 => vec(number(), 0..7).prop_map(Some)]
}

fn class_values() -> impl Strategy<Value = ClassValues> {
    prop_oneof![3 => number().prop_map(ClassValues::Same), 1 => vec(number(), 0..7).prop_map(ClassValues::Each)]
}

fn overlap() -> impl Strategy<Value = Overlap> {
    let weightings = vec![ClassWeighting::Square, ClassWeighting::Simple, ClassWeighting::Uniform];
    let kind = prop_oneof![
        Just(OverlapKind::Dice),
        Just(OverlapKind::Jaccard),
        (number(), number()).prop_map(|(alpha, beta)| OverlapKind::Tversky { alpha, beta }),
        select(weightings).prop_map(|class_weighting| OverlapKind::GeneralizedDice { class_weighting }),
        number().prop_map(|smooth_counts| OverlapKind::Mcc { smooth_counts }),
    ];
    let numbers = (number(), number(), number(), option::of(number()));
    let flag = || proptest::bool::weighted(0.3);
    let flags = [flag(), flag(), flag(), flag(), flag(), flag()];
    let reductions = prop_oneof![
        30 => select(vec![Reduction::Mean, Reduction::Sum, Reduction::WeightedMean]),
        1 => Just(Reduction::SumOfItemMeans),
    ];
    let forms = vec![Form::OneMinus, Form::Negative, Form::Identity, Form::Log, Form::LogCosh];
    let gamma = option::weighted(0.05, class_values());
    let classes = option::weighted(0.03, vec(0..8_u32, 0..5));
    let absent = vec![Absent::Count, Absent::Count, Absent::Count, Absent::Skip, Absent::Zero];
    let of_rows = (reductions, select(absent), classes);
    let of_ratio = (select(forms), gamma, number(), option::weighted(0.1, number()));
    (kind, flags, numbers, weights(), of_rows, of_ratio).prop_map(
        |(kind, flags, numbers, class_weights, of_rows, of_ratio)| {
            let [include_background, batch, squared, single, minimum, micro] = flags;
            let (nr, dr, weight, floor) = numbers;
            let (reduction, absent, classes) = of_rows;
            let (form, gamma, eps, power_of_mean) = of_ratio;
            Overlap {
                kind,
                include_background,
                classes,
                batch,
                squared: squared && !minimum,
                smooth_nr: nr,
                smooth_dr: dr,
                denominator_floor: floor,
                class_weights,
                ignore_single_class_weight: single,
                reduction,
                average: if micro { Average::Micro } else { Average::Macro },
                form,
                gamma,
                eps,
                product: if minimum { Product::Minimum } else { Product::Product },
                absent,
                power_of_mean,
                weight,
            }
        },
    )
}

fn pixel() -> impl Strategy<Value = Pixel> {
    let alpha =
        prop_oneof![Just(Alpha::None), number().prop_map(Alpha::Scalar), vec(number(), 0..7).prop_map(Alpha::PerClass)];
    let kind = prop_oneof![
        Just(PixelKind::CrossEntropy),
        number().prop_map(|epsilon| PixelKind::PolyCrossEntropy { epsilon }),
        number().prop_map(|q| PixelKind::GeneralizedCrossEntropy { q }),
        weights().prop_map(|pos_weight| PixelKind::BinaryCrossEntropy { pos_weight }),
        (class_values(), alpha, any::<[bool; 2]>()).prop_map(|(gamma, alpha, [include_background, first])| {
            PixelKind::Focal {
                gamma,
                alpha,
                scalar_alpha: if first { ScalarAlpha::FirstClass } else { ScalarAlpha::IgnoredWithoutBackground },
                include_background,
            }
        }),
    ];
    let reductions = prop_oneof![
        20 => select(vec![Reduction::Mean, Reduction::Sum, Reduction::SumOfItemMeans]),
        1 => Just(Reduction::WeightedMean),
    ];
    let means = select(vec![MeanOver::Valid, MeanOver::Voxels, MeanOver::All]);
    let top_k = option::weighted(0.03, prop_oneof![number().prop_map(f64::from), 0.0_f64..100.0]);
    (kind, option::of(number()), weights(), (reductions, means, top_k, any::<bool>()), number()).prop_map(
        |(kind, smoothing, class_weights, (reduction, mean_over, k_percent, nan), weight)| Pixel {
            kind,
            label_smoothing: smoothing.unwrap_or(0.0),
            class_weights,
            reduction,
            k_percent,
            mean_over,
            weight,
            empty: if nan { Empty::Nan } else { Empty::Zero },
        },
    )
}

fn head() -> impl Strategy<Value = Head> {
    let floats = || select(vec![FloatType::F32, FloatType::F16, FloatType::Bf16]);
    let target = prop_oneof![
        3 => select(LabelType::ALL.to_vec()).prop_map(Target::Labels),
        1 => floats().prop_map(Target::Probabilities),
    ];
    let resample = prop_oneof![8 => Just(None), 1 => vec(axis(), 0..4).prop_map(Some)];
    let ignored =
        prop_oneof![9 => Just(None), 1 => any::<i8>().prop_map(|l| Some(l.into())), 1 => any::<i64>().prop_map(Some)];
    let activations = vec![Activation::Softmax, Activation::Softmax, Activation::Sigmoid, Activation::None];
    let counts = vec![HardCounts::None, HardCounts::Batch, HardCounts::Item];
    let loss = (select(activations), option::weighted(0.8, overlap()), option::weighted(0.8, pixel()))
        .prop_map(|(activation, overlap, pixel)| Loss { activation, overlap, pixel });
    let shape = prop_oneof![20 => vec(axis(), 2..5), 1 => vec(axis(), 0..7)];
    let asked = (select(counts), any::<[bool; 5]>(), number());
    let label = || prop_oneof![20 => 0..9_u32, 1 => any::<u32>()];
    let map = option::weighted(0.03, btree_map(label(), option::of(label()), 0..4));
    let regions = option::weighted(0.03, btree_map(label(), option::of(vec(label(), 0..3)), 0..4));
    let formats = select(vec![MemoryFormat::ContiguousFormat, MemoryFormat::ChannelsLast]);
    (shape, loss, (target, floats(), resample, formats), (ignored, map, regions), asked).prop_map(
        |(shape, loss, (target, logits, resample, memory_format), tables, (hard_counts, flags, weight))| {
            let (ignore_index, label_map, regions) = tables;
            let [mask, weight_map, sample_mask, unreduced, check_finite] = flags;
            Head {
                target,
                logits,
                memory_format,
                resample,
                label_map,
                regions,
                ignore_index,
                hard_counts,
                mask,
                weight_map,
                sample_mask,
                unreduced,
                check_finite,
                ..Head::new(shape, loss).weight(weight)
            }
        },
    )
}

fn specs() -> impl Strategy<Value = LossSpec> {
    vec(head(), 0..3).prop_map(|heads| LossSpec { heads })
}

fn runner(cases: u32) -> TestRunner {
    let rng_seed = RngSeed::Fixed(from_environment("SEGLOSS_SEED", 1));
    TestRunner::new(Config { cases, failure_persistence: None, rng_seed, ..Config::default() })
}

#[test]
fn a_random_specification_is_refused_or_planned() {
    let Gpu { device, queue, .. } = gpu();
    let (mut wrong, mut too_large, mut planned) = (0, 0, 0);
    let mut runner = runner(trials(3000));
    for _ in 0..trials(3000) {
        let tree = specs().new_tree(&mut runner).expect("a specification");
        let spec = proptest::strategy::ValueTree::current(&tree);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            spec.validate().map(|()| Plan::new(&device, &queue, &spec).map(|plan| plan.memory()))
        }));
        match outcome.unwrap_or_else(|_| panic!("it panics: {spec:?}")) {
            Err(_) => wrong += 1,
            Ok(Err(error)) => {
                assert!(matches!(error, segloss::Error::Limit { .. }), "{error:?}: {spec:?}");
                too_large += 1;
            }
            Ok(Ok(_)) => planned += 1,
        }
    }
    println!("specifications: {wrong} wrong, {too_large} too large for the device, {planned} planned");
    assert!(wrong > 100 && too_large > 5 && planned > 100, "{wrong} {too_large} {planned}");
}

/// A document with a few bytes changed, cut, doubled or moved.
fn mutated_bytes(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(1..5) {
        if bytes.is_empty() {
            break;
        }
        let at = random.usize(0..bytes.len());
        let end = (at + random.usize(1..16)).min(bytes.len());
        match random.u8(0..6) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] ^= 1 << random.u8(0..8),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
            _ => drop(bytes.splice(
                at..end,
                random.choice([&b"-1"[..], b"null", b"1e999", b"[]", b"\"\"", b"9e18", b"{"]).expect("some").to_vec(),
            )),
        }
    }
    bytes
}

/// Replaces or removes one value of a document.
fn mutate(value: &mut Value, random: &mut fastrand::Rng) {
    let inside = match value {
        Value::Array(values) => values.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if value.is_number() && random.u8(0..4) > 0 {
        *value = json!(random.choice([-1_i64, 0, 1, 2, 3, 5, 255, 65_537, 1 << 40, i64::MIN, i64::MAX]).expect("some"));
        return;
    }
    if inside == 0 || random.u8(0..8) == 0 {
        let others = [
            json!(null),
            json!(true),
            json!(-1),
            json!(0),
            json!(1),
            json!(3),
            json!(65_537),
            json!(1_u64 << 40),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(0.5),
            json!(1e300),
            json!(-1e-300),
            json!(""),
            json!("nan"),
            json!("-inf"),
            json!("labels"),
            json!("focal"),
            json!([]),
            json!([0]),
            json!([2, 2]),
            json!({}),
        ];
        *value = random.choice(others).expect("some");
        return;
    }
    let at = random.usize(0..inside);
    let remove = random.u8(0..16) == 0;
    match value {
        Value::Array(values) if remove => drop(values.remove(at)),
        Value::Array(values) => mutate(&mut values[at], random),
        Value::Object(fields) => {
            let key = fields.keys().nth(at).expect("it is inside").clone();
            if remove {
                fields.remove(&key);
            } else {
                mutate(&mut fields[&key], random);
            }
        }
        _ => {}
    }
}

/// Runs `trial` on variations of a valid document: half of them with other bytes, half with another structure.
fn on_mutations(base: u32, documents: &[Value], mut trial: impl FnMut(&[u8]) -> bool) {
    let seed = from_environment("SEGLOSS_SEED", 1);
    let (mut taken, mut refused) = (0, 0);
    for number in 0..trials(base) {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(1 << 32) + u64::from(number));
        let mut document = random.choice(documents).expect("there is one").clone();
        let bytes = if number % 2 == 0 {
            mutated_bytes(&serde_json::to_vec(&document).expect("written"), &mut random)
        } else {
            (0..random.u8(1..4)).for_each(|_| mutate(&mut document, &mut random));
            serde_json::to_vec(&document).expect("written")
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| trial(&bytes)));
        if outcome.unwrap_or_else(|_| panic!("it panics: {}", String::from_utf8_lossy(&bytes))) {
            taken += 1;
        } else {
            refused += 1;
        }
    }
    println!("documents: {taken} taken, {refused} refused");
    assert!(taken > 10 && refused > 10, "{taken} {refused}");
}

#[test]
fn a_specification_as_text_is_refused_or_read_and_written_back() {
    let mut runner = runner(1);
    let mut documents = Vec::new();
    while documents.len() < 50 {
        let spec = proptest::strategy::ValueTree::current(&specs().new_tree(&mut runner).expect("a specification"));
        if spec.validate().is_ok() {
            documents.push(serde_json::to_value(&spec).expect("written"));
        }
    }
    on_mutations(20_000, &documents, |bytes| {
        let Ok(spec) = serde_json::from_slice::<LossSpec>(bytes) else { return false };
        if spec.validate().is_err() {
            return false;
        }
        let text = serde_json::to_string(&spec).expect("written");
        assert_eq!(serde_json::from_str::<LossSpec>(&text).expect("read"), spec, "{text}");
        true
    });
}

/// A few small cases of each file, each as a file of its own.
fn case_files() -> Vec<Value> {
    let mut files = Vec::new();
    for name in ["reference", "combinations", "monai_tests", "family"] {
        let path = format!("{}/tests/cases/{name}.json.gz", env!("CARGO_MANIFEST_DIR"));
        let file = GzDecoder::new(std::fs::File::open(path).expect("a file of cases"));
        let file: Value = serde_json::from_reader(file).expect("JSON");
        let mut cases: Vec<Value> = file["cases"].as_array().expect("cases").clone();
        cases.sort_by_key(|case| case.to_string().len());
        let schema = file["schema"].clone();
        files.extend(cases.into_iter().take(40).map(|case| json!({"schema": schema, "about": "one", "cases": [case]})));
    }
    files
}

/// Writes these bytes to a file of this name, and reads it.
fn read_bytes(name: &str, bytes: &[u8]) -> Option<CaseFile> {
    let path = std::env::temp_dir().join(format!("segloss-fuzz-{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).expect("a temporary file");
    let file = read(&path);
    std::fs::remove_file(&path).expect("it is removed");
    file.ok()
}

#[test]
fn a_file_of_cases_is_refused_or_read() {
    on_mutations(4000, &case_files(), |bytes| {
        let Some(file) = read_bytes("read.json", bytes) else { return false };
        for head in file.cases.iter().flat_map(|case| &case.heads) {
            let _ = head.labels();
            // either what is lacking, or a head, which may be invalid
            let _ = head.to_head().map(|head| LossSpec::new().head(head).validate());
        }
        true
    });
}

#[test]
fn a_case_that_is_wrong_in_itself_is_an_outcome() {
    let gpu = gpu();
    on_mutations(300, &case_files(), |bytes| {
        let Some(file) = read_bytes("run.json", bytes) else { return false };
        file.cases.iter().for_each(|case| drop(run(&gpu.plans, case)));
        true
    });
}

#[test]
fn a_compressed_file_of_cases_is_refused_or_read() {
    let mut random = fastrand::Rng::with_seed(from_environment("SEGLOSS_SEED", 1));
    let files = case_files();
    for _ in 0..trials(500) {
        let file = random.choice(&files).expect("there is one");
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(file.to_string().as_bytes()).and_then(|()| gz.flush()).expect("compressed");
        let bytes = mutated_bytes(&gz.finish().expect("compressed"), &mut random);
        // refused; or read, where the checksum is behind what the reader needs
        drop(read_bytes("read.json.gz", &bytes));
    }
}
