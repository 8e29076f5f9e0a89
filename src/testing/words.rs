//! What each word of a report should be, by the names of [`ReportWords`](crate::ReportWords).

use super::{Expected, ExpectedHead};
use crate::layout::words::NO_VOXEL;

/// What a word of a report should be, and which tolerance it is within.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExpectedWord {
    /// [`Tolerance::loss`](super::Tolerance).
    Loss(f64),
    /// [`Tolerance::soft_dice`](super::Tolerance).
    SoftDice(f64),
    /// Equal.
    Count(u64),
}

impl Expected {
    /// The words that are compared, by name.
    #[must_use]
    pub fn words(&self) -> Vec<(String, ExpectedWord)> {
        let total = ("total".to_owned(), ExpectedWord::Loss(self.total));
        let heads = self.heads.iter().enumerate();
        let heads = heads.flat_map(|(index, head)| {
            of_head(head).into_iter().map(move |(name, word)| (format!("heads[{index}].{name}"), word))
        });
        std::iter::once(total).chain(heads).collect()
    }
}

fn of_head(head: &ExpectedHead) -> Vec<(String, ExpectedWord)> {
    use ExpectedWord::{Count, Loss, SoftDice};
    let mut all: Vec<(String, ExpectedWord)> = Vec::new();
    let terms = [("overlap", head.overlap), ("pixel", head.pixel)];
    all.extend(terms.into_iter().filter_map(|(name, term)| Some((name.to_owned(), Loss(term?)))));
    for (class, &dice) in head.soft_dice.iter().flatten().enumerate() {
        all.push((format!("soft_dice[{class}]"), SoftDice(dice)));
    }
    for (name, &count) in ["counted", "ignored", "out_of_range"].iter().zip(head.voxels.iter().flatten()) {
        all.push(((*name).to_owned(), Count(count)));
    }
    if let Some(first) = head.first_out_of_range {
        let none = (NO_VOXEL as usize, NO_VOXEL as usize);
        let (item, voxel) = first.unwrap_or(none);
        all.push(("first_out_of_range.item".to_owned(), Count(item as u64)));
        all.push(("first_out_of_range.voxel".to_owned(), Count(voxel as u64)));
    }
    if let Some(logits) = head.non_finite {
        all.push(("non_finite.logits".to_owned(), Count(logits)));
    }
    for (class, counts) in head.hard_counts.iter().flatten().enumerate() {
        all.extend(hits(&format!("hard_counts[{class}]"), counts));
    }
    for (item, classes) in head.item_counts.iter().flatten().enumerate() {
        for (class, counts) in classes.iter().enumerate() {
            all.extend(hits(&format!("item_counts[{item}][{class}]"), counts));
        }
    }
    if let Some(losses) = &head.overlap_losses {
        let columns = losses.len() / head.overlap_rows.max(1);
        for (index, &loss) in losses.iter().enumerate() {
            all.push((format!("overlap_losses[{}][{}]", index / columns, index % columns), Loss(loss)));
        }
    }
    all
}

/// The three of a class that a report has as words; TN follows from them.
fn hits<'a>(place: &'a str, counts: &'a [u64; 4]) -> impl Iterator<Item = (String, ExpectedWord)> + 'a {
    let names = ["true_positives", "false_positives", "false_negatives"];
    names.into_iter().zip(counts).map(move |(name, &count)| (format!("{place}.{name}"), ExpectedWord::Count(count)))
}
