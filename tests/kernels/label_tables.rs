//! Labels that stand for classes or for channels by a table.

use segloss::testing::Tensors;
use segloss::{Activation, FloatType, Head, LabelType, Loss, LossSpec, Overlap, Pixel};

use crate::common::{all_gpus, differences, evaluate, run};

/// The regions of BRATS: whole tumour, tumour core, enhancing tumour; label 9 counts nowhere.
fn regions(head: Head) -> Head {
    let channels = [(0, Some(vec![])), (1, Some(vec![0, 1])), (2, Some(vec![0])), (4, Some(vec![0, 1, 2])), (9, None)];
    head.regions(channels)
}

#[test]
fn regions_of_labels_are_the_dense_target_that_they_stand_for() {
    let loss = Loss { activation: Activation::Sigmoid, ..Loss::new().overlap(Overlap::dice()) };
    let loss = loss.pixel(Pixel::binary_cross_entropy());
    let labels = [0_i64, 1, 2, 4].repeat(2 * 5 * 7 / 4 + 1)[..2 * 5 * 7].to_vec();
    let t = |label: i64, channel: usize| match channel {
        0 => f32::from(u8::from(label > 0)),
        1 => f32::from(u8::from(label == 1 || label == 4)),
        _ => f32::from(u8::from(label == 4)),
    };
    let dense = |item: usize, channel: usize| (0..35).map(move |voxel| (item * 35 + voxel, channel));
    let pairs = (0..2).flat_map(|item| (0..3).flat_map(move |channel| dense(item, channel)));
    let probabilities = pairs.map(|(at, channel)| t(labels[at], channel)).collect();
    for gpu in all_gpus() {
        let head = Head::new([2, 3, 5, 7], loss.clone());
        let by_table = LossSpec::new().head(regions(head.clone()));
        let by_values = LossSpec::new().head(head.probabilities(FloatType::F32));
        let drawn = Tensors::random(&by_table.heads[0], 3.0, 3);
        let given = Tensors { labels: labels.clone(), ..drawn.clone() };
        let values = Tensors { labels: Vec::new(), probabilities: Vec::clone(&probabilities), ..drawn };
        let [given, values] = [run(&gpu, &by_table, &[given], 1.0), run(&gpu, &by_values, &[values], 1.0)];
        assert_eq!(given.report.total.to_bits(), values.report.total.to_bits(), "{}", gpu.name);
        assert_eq!(given.gradients, values.gradients, "{}", gpu.name);
    }
}

/// Forty classes, so that channels lie in several words of the table, and classes are split or stream.
#[test]
fn tables_of_many_classes_and_of_large_labels_equal_the_reference() {
    let channels = |label: u32| (0..40_u32).filter(|channel| (channel + label).is_multiple_of(3)).collect::<Vec<u32>>();
    for gpu in all_gpus() {
        for classes in [4, 40] {
            let below = |channels: Vec<u32>| channels.into_iter().filter(|&channel| channel < classes).collect();
            let head = Head::new([2, classes as usize, 37], Loss::monai_dice_ce().pixel(Pixel::cross_entropy()));
            let of_map = [(0, Some(0)), (7, Some(1)), (2_035, Some(classes - 1)), (14_175, None), (11, Some(1))];
            let mapped = head.clone().labels(LabelType::U16).label_map(of_map);
            let of_regions = [0, 7, 11, 2_035].map(|label| (label, Some(below(channels(label)))));
            let regions = head.labels(LabelType::U16).regions(of_regions);
            for head in [mapped, regions] {
                // 3 is in no table
                let labels = [0_i64, 7, 2_035, 11, 3, 14_175].repeat(13)[..74].to_vec();
                let tensors = [Tensors { labels, ..Tensors::random(&head, 3.0, 3) }];
                let spec = LossSpec::new().head(head);
                let given = run(&gpu, &spec, &tensors, 1.0);
                let worst = differences(&given, &evaluate(&spec, &tensors, 1.0));
                assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{}: {classes}: {worst:?}", gpu.name);
                let out_of_range = if spec.heads[0].regions.is_some() { 24 } else { 12 };
                assert_eq!(given.report.heads[0].out_of_range, out_of_range, "{}: {classes}", gpu.name);
            }
        }
    }
}

/// One channel: the table maps to the background and the channel.
#[test]
fn one_channel_is_mapped_to_background_and_class() {
    for gpu in all_gpus() {
        let loss = Loss { activation: Activation::Sigmoid, ..Loss::new().overlap(Overlap::dice()) };
        let head = Head::new([1, 1, 6], loss.pixel(Pixel::binary_cross_entropy()));
        let plain = LossSpec::new().head(head.clone());
        let mapped = LossSpec::new().head(head.label_map([(5, Some(0)), (3, Some(1)), (2, Some(1))]));
        let of = |labels: [i64; 6]| [Tensors { labels: labels.to_vec(), ..Tensors::random(&plain.heads[0], 3.0, 3) }];
        let tensors = [of([0, 1, 1, 0, 0, 1]), of([5, 3, 2, 5, 5, 3])];
        let [plain, mapped] = [run(&gpu, &plain, &tensors[0], 1.0), run(&gpu, &mapped, &tensors[1], 1.0)];
        assert_eq!(plain.report.total.to_bits(), mapped.report.total.to_bits(), "{}", gpu.name);
        assert_eq!(plain.gradients, mapped.gradients, "{}", gpu.name);
    }
}
