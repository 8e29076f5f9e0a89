//! A batch over several ranks. Each computes the statistics of its items, and MPI adds the global sums up; then every
//! rank has the total and the report of the whole batch, and the gradient of its own logits. Rank 0 checks them against
//! one plan on the whole batch, and prints how much a step exchanges and how long that takes.
//!
//! ```sh
//! make mpi                                # builds it, runs it on 2 and on 4 ranks, then with a rank that dies
//! mpirun -n 4 target/debug/distributed_mpi --steps 500
//! ```

mod batch;
mod check;
mod exchange;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use exchange::all_reduce;
use mpi::Threading;
use mpi::topology::SimpleCommunicator;
use mpi::traits::Communicator;
use segloss::host::{HostStep, HostTensors};
use segloss::{AdapterChoice, GlobalSums, Plan, PlanOptions, Report, Step, wgpu};

#[derive(Parser)]
#[command(about = "Global sums over MPI ranks: one loss of a batch that is spread over machines")]
struct Args {
    /// Number of steps for the median times.
    #[arg(long, default_value_t = 100)]
    steps: usize,
    /// This rank exits after half of the steps without notice: the others wait for it, and MPI ends the job.
    #[arg(long, value_name = "RANK")]
    die: Option<usize>,
    /// This rank panics after half of the steps: the panic ends the job.
    #[arg(long, value_name = "RANK")]
    panic: Option<usize>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (universe, _) = mpi::initialize_with_threading(Threading::Funneled).context("MPI does not start")?;
    let world = universe.world();
    // unwinding would run MPI_Finalize, which waits for ranks that wait for this one
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        SimpleCommunicator::world().abort(1);
    }));
    if let Err(error) = run(&world, &args) {
        eprintln!("rank {}: {error:#}", world.rank());
        world.abort(1);
    }
    Ok(())
}

/// A rank's device, and its step.
struct Rank<'a> {
    world: &'a SimpleCommunicator,
    device: wgpu::Device,
    queue: wgpu::Queue,
    step: &'a Step,
}

/// The time of a step, and of the reduction in it.
#[derive(Clone, Copy)]
struct Times {
    step: Duration,
    reduction: Duration,
}

fn run(world: &SimpleCommunicator, args: &Args) -> Result<()> {
    let (rank, ranks) = (usize::try_from(world.rank())?, usize::try_from(world.size())?);
    ensure!(args.steps > 0, "--steps: expected at least 1");
    let (device, queue) = AdapterChoice::default().open()?;
    // usually there is one GPU per rank; a software adapter is shared
    let mine = batch::items_of(rank);
    let spec = batch::spec(mine.len());
    let options = PlanOptions { distributed: true, ..PlanOptions::default() };
    let plan = Plan::with_options(&device, &queue, &spec, options)?;
    let tensors = batch::tensors(&spec, &mine, ranks);
    let tensors: Vec<_> = tensors.iter().map(|(logits, labels)| HostTensors::labels(logits, labels)).collect();
    // a trainer binds its own buffers; this uploads some. A trainer that averages gradients over ranks passes their
    // number instead of 1.0
    let host = HostStep::new(&plan, &tensors, 1.0)?;
    host.step().warm_up()?;
    let this = Rank { world, device, queue, step: host.step() };

    let mut times = Vec::new();
    let mut last = None;
    for index in 0..args.steps {
        if index == args.steps / 2 {
            if args.die == Some(rank) {
                std::process::abort();
            }
            assert!(args.panic != Some(rank), "rank {rank} was told to panic");
        }
        let (sums, report, time) = this.train_step()?;
        times.push(time);
        last = Some((sums, report));
    }
    let (sums, report) = last.context("there was a step")?;
    let whole = exchange::gather(world, &host.read_gradients()?);
    check::totals_agree(world, &report)?;
    if rank == 0 {
        print_report(&report, ranks);
        check::equals_one_plan(&this.device, &this.queue, ranks, &report, &whole)?;
        print_costs(&sums, &times);
    }
    Ok(())
}

impl Rank<'_> {
    /// One step of a trainer, forward and backward.
    fn train_step(&self) -> Result<(GlobalSums, Report, Times)> {
        let encoder = || self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let begin = Instant::now();
        let mut forward = encoder();
        self.step.statistics(&mut forward);
        self.step.combine(&mut forward);
        let pending = self.step.global_sums(&mut forward)?;
        self.queue.submit([forward.finish()]);
        let own = pending.read_blocking()?;

        // wait for all ranks first, so that the reduction's time does not contain the slowest rank's network
        let waiting = Instant::now();
        exchange::barrier(self.world);
        let reducing = Instant::now();
        let sums = all_reduce(self.world, &own);
        let reduction = reducing.elapsed();
        let waited = reducing - waiting;
        self.step.set_global_sums(&sums)?;

        let mut backward = encoder();
        self.step.finish(&mut backward);
        self.step.gradient(&mut backward);
        let pending = self.step.report(&mut backward)?;
        self.queue.submit([backward.finish()]);
        let report = pending.read_blocking()?;
        Ok((sums, report, Times { step: begin.elapsed().saturating_sub(waited), reduction }))
    }
}

fn print_report(report: &Report, ranks: usize) {
    println!("{ranks} ranks, {} items: total {:.6}", batch::items(ranks), report.total);
    for (index, head) in report.heads.iter().enumerate() {
        let value =
            |term: Option<segloss::Term>| term.map_or_else(|| "-".to_owned(), |term| format!("{:.6}", term.value));
        println!(
            "  head {index}: overlap {}, pixel {}, {} voxels counted, {} ignored",
            value(head.overlap),
            value(head.pixel),
            head.counted,
            head.ignored
        );
    }
}

fn print_costs(sums: &GlobalSums, times: &[Times]) {
    let median = |of: fn(&Times) -> Duration| {
        let mut all: Vec<_> = times.iter().map(of).collect();
        all.sort();
        1e6 * all[all.len() / 2].as_secs_f64()
    };
    let (floats, integers) = (size_of_val(&sums.sums[..]), size_of_val(&sums.counts[..]));
    println!("  a step exchanges {} bytes per rank: {floats} of f32 and {integers} of u64", floats + integers);
    println!(
        "  medians of {} steps: reduction {:.1} µs, step {:.1} µs",
        times.len(),
        median(|time| time.reduction),
        median(|time| time.step)
    );
}
