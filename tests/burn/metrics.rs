//! Metrics of an epoch.

use burn::data::dataloader::Progress;
use burn::train::ItemLazy as _;
use burn::train::metric::{Adaptor as _, Metric as _, MetricMetadata, Numeric as _, NumericEntry};
use segloss::burn::HeadTensors;
use segloss::burn::metrics::{ReportItem, ReportMetric};
use segloss::{HardCounts, Head, Loss, LossSpec, Report};

use crate::{bridge, labels, random, report};

/// An epoch's Dice is that of all its voxels, and a mean of its batches' would be another; its loss is the mean.
#[test]
fn metrics_of_an_epoch_are_of_the_sums_of_its_counts() {
    let (device, bridge) = bridge();
    let spec = LossSpec::new().head(Head::new([], Loss::monai_dice_ce()).hard_counts(HardCounts::Batch));
    let mut metrics: Vec<_> = [ReportMetric::total(), ReportMetric::term(0, 1)].into();
    metrics.extend(ReportMetric::dice(0, &["a", "b", "c"]).chain(ReportMetric::iou(0, &["a", "b", "c"])));
    let metadata = MetricMetadata { progress: Progress::new(1, 2, None), iteration: None, lr: None };
    let mut reports = Vec::new();
    for (seed, voxels) in [(180, 30), (182, 500)] {
        let (logits, labels) = (random([1, 3, voxels], seed, &device), labels([1, voxels], 3, seed + 1, &device));
        let loss = || bridge.loss(&spec, [HeadTensors::labels(logits.clone(), labels.clone())]).unwrap();
        reports.push(report(loss()));
        let item = ReportItem::from(loss().report).sync().unwrap();
        for metric in &mut metrics {
            metric.update(&item.adapt(), &metadata).unwrap();
        }
    }
    let counts = |class: usize| {
        let of = |report: &Report| report.heads[0].hard_counts.as_ref().unwrap()[class];
        let sum = |count: fn(segloss::ClassCounts) -> u32| {
            reports.iter().map(|report| f64::from(count(of(report)))).sum::<f64>()
        };
        [sum(|class| class.true_positives), sum(|class| class.false_positives), sum(|class| class.false_negatives)]
    };
    let mean = |of: fn(&Report) -> f32| reports.iter().map(|report| f64::from(of(report))).sum::<f64>() / 2.0;
    let dice: Vec<f64> = (0..3).map(counts).map(|[tp, fp, r#fn]| 2.0 * tp / (2.0 * tp + fp + r#fn)).collect();
    let iou = (0..3).map(counts).map(|[tp, fp, r#fn]| tp / (tp + fp + r#fn));
    let losses = [mean(|report| report.total), mean(|report| report.heads[0].pixel.unwrap().value)];
    let of_classes = dice.iter().copied().chain([f64::midpoint(dice[1], dice[2])]).chain(iou);
    let expected: Vec<f64> = losses.into_iter().chain(of_classes).collect();
    assert_eq!(expected.len(), metrics.len());
    for (metric, expected) in metrics.iter_mut().zip(expected) {
        metric.compute().unwrap();
        let NumericEntry::Final(found) = metric.final_value() else { panic!("{}: not of the epoch", metric.name()) };
        assert!((found - expected).abs() < 1e-12, "{}: {found} is not {expected}", metric.name());
        metric.clear();
        assert!(metric.running_value().is_none(), "{}: the next epoch has begun", metric.name());
    }
    let missing = ReportMetric::term(0, 2).update(
        &ReportItem::from(
            bridge
                .loss(&spec, [HeadTensors::labels(random([1, 3, 8], 190, &device), labels([1, 8], 3, 191, &device))])
                .unwrap()
                .report,
        )
        .adapt(),
        &metadata,
    );
    assert!(missing.unwrap_err().to_string().contains("expected one of 2 terms, got 2"));
}
