//! What a step should write, as a document has it: the report whole, and samples and sums of what is as large as the logits.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use segloss::testing::{Expected, ExpectedWord as Word, Tolerance};
use segloss::{FloatType, Head, LossSpec, host};
use serde_json::Value;

use super::document::{self, ExpectedWord, Output};

/// Of an output with more edges than this, none is sampled for being one.
const MOST_EDGES: usize = 1 << 13;

pub fn tolerance(Tolerance { loss, gradient, soft_dice }: Tolerance) -> document::Tolerance {
    document::Tolerance { loss, gradient, soft_dice }
}

pub fn words(expected: &Expected) -> Vec<ExpectedWord> {
    let words = expected.words().into_iter().map(|(name, word)| {
        #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
        let (kind, value) = match word {
            Word::Loss(value) => ("loss", value),
            Word::SoftDice(value) => ("soft_dice", value),
            Word::Count(count) => ("count", count as f64),
        };
        ExpectedWord { name, kind, value: number(value) }
    });
    words.collect()
}

/// The gradient and the voxel losses of every head. `tile`: voxels of the smallest tile that the steps have.
pub fn outputs(spec: &LossSpec, expected: &Expected, tile: usize, samples: usize) -> Vec<Output> {
    let mut all = Vec::new();
    for (index, (head, expected)) in spec.heads.iter().zip(&expected.heads).enumerate() {
        if let Some(gradient) = &expected.gradient {
            let gradient = Output {
                scale: expected.scale,
                rounding: expected.rounding,
                ..output(index, head, gradient, tile, samples)
            };
            all.push(gradient);
        }
        if let Some(losses) = &expected.voxel_losses {
            let losses = output(index, head, losses, tile, samples);
            all.push(Output { tensor: "voxel_losses".to_owned(), dtype: FloatType::F32.name(), ..losses });
        }
    }
    all
}

fn output(index: usize, head: &Head, values: &[f64], tile: usize, samples: usize) -> Output {
    let (elements, columns) = (values.len(), head.voxels());
    let edges = 2 * (elements / columns.max(1)) * columns.div_ceil(tile) <= MOST_EDGES;
    let stride = elements.div_ceil(samples) | 1;
    #[expect(clippy::cast_possible_truncation, reason = "the results are f32 as well")]
    let samples = (0..elements).filter(|&e| is_sampled(e, columns, tile, edges, stride)).map(|e| values[e] as f32);
    let samples: Vec<f32> = samples.collect();
    Output {
        head: index,
        tensor: "gradient".to_owned(),
        dtype: head.logits.name(),
        elements,
        columns,
        tile,
        edges,
        stride,
        samples: BASE64_STANDARD.encode(host::float_bytes(&samples, FloatType::F32)),
        sum: number(values.iter().sum()),
        sum_abs: number(values.iter().map(|value| value.abs()).sum()),
        scale: 0.0,
        rounding: [0.0; 2],
    }
}

/// The same rule as compare.mjs.
fn is_sampled(element: usize, columns: usize, tile: usize, edges: bool, stride: usize) -> bool {
    let column = element % columns;
    let at_edge = || column == columns - 1 || matches!(column % tile, 0) || column % tile == tile - 1;
    element.is_multiple_of(stride) || edges && at_edge()
}

/// A number as JSON has it, or as JavaScript spells it.
fn number(value: f64) -> Value {
    match value {
        value if value.is_finite() => value.into(),
        value if value.is_nan() => "NaN".into(),
        value if value > 0.0 => "Infinity".into(),
        _ => "-Infinity".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segloss::{Loss, testing};

    #[test]
    fn the_ends_of_rows_and_tiles_are_sampled_and_about_as_many_others_as_asked() {
        let (columns, tile) = (1000, 256);
        let sampled: Vec<_> = (0..3000).filter(|&e| is_sampled(e, columns, tile, true, 31)).collect();
        for element in [0, 255, 256, 511, 512, 767, 768, 999, 1000, 1255, 1256, 2999, 31, 62] {
            assert!(sampled.contains(&element), "{element}");
        }
        assert!(!sampled.contains(&1) && !sampled.contains(&257));
        assert!((3000 / 31..3000 / 31 + 24).contains(&sampled.len()), "{}", sampled.len());
    }

    #[test]
    fn an_output_has_the_sums_of_all_and_the_samples_of_some() {
        let spec = LossSpec::new().head(Head::new([2, 3, 40], Loss::monai_dice_ce()));
        let tensors = [testing::Tensors::hashed(&spec.heads[0], 1)];
        let expected = Expected::of_evaluation(&testing::evaluate(&spec, &tensors, 1.0).expect("it is evaluated"));
        let [output] = &outputs(&spec, &expected, 16, 24)[..] else { panic!("one output") };
        let gradient = expected.heads[0].gradient.as_ref().expect("it has one");
        assert_eq!((output.elements, output.columns, output.stride), (240, 40, 11));
        assert_eq!(output.sum, Value::from(gradient.iter().sum::<f64>()));
        let samples = BASE64_STANDARD.decode(&output.samples).expect("base64").len() / 4;
        assert_eq!(samples, (0..240).filter(|&e| is_sampled(e, 40, 16, true, 11)).count());
    }
}
