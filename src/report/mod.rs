//! What is read back: the report of a step, and the global sums of a batch over several machines.

pub(crate) mod global_sums;
mod of_step;
mod pending;
mod report_words;

pub use global_sums::{GlobalSums, PendingGlobalSums};
pub use of_step::{ClassCounts, HeadReport, ItemCounts, NonFinite, PendingReport, Report, Term, VoxelPosition};
pub(crate) use pending::Mailbox;
pub use pending::Pending;
pub use report_words::{ReportWord, ReportWords};
