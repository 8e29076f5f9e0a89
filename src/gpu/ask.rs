//! Asks a device questions with known answers (`shaders/ask.wgsl`).

use std::time::Duration;

use super::device::{Access, Entry, bind_group, buffer, buffer_with, checked};
use super::pipelines::Pipelines;
use crate::error::Error;
use crate::kernels::compose;
use crate::layout::answers::Answers;
use crate::layout::driver::Driver;
use crate::layout::variant::Variant;
use crate::layout::words;

/// What is being done, in errors.
const ASKING: &str = "asking the device";

/// The longest wait for the answers. Compiling the questions takes most of it.
const WAIT: Duration = Duration::from_secs(30);

/// Words of two halves, and the two f32 that they are: subnormal ones, the least normal one, the largest, and infinite ones.
/// Then two f32, and the word of halves that they round to: ties to even and to odd on both sides, at subnormal halves as well;
/// what just rounds to 0, to the largest half and to ∞.
struct Half {
    word: u32,
    decoded: [f32; 2],
    floats: [f32; 2],
    encoded: u32,
}

#[rustfmt::skip]
const HALVES: [Half; 6] = [
    Half { word: 0x8001_0001, decoded: [5.960_464_5e-8, -5.960_464_5e-8],
        floats: [5.960_464_5e-8, -8.940_697e-8], encoded: 0x8002_0001 },
    Half { word: 0x83ff_03ff, decoded: [6.097_555e-5, -6.097_555e-5],
        floats: [2.980_232_2e-8, 2.980_232_6e-8], encoded: 0x0001_0000 },
    Half { word: 0x8400_0400, decoded: [6.103_515_6e-5, -6.103_515_6e-5],
        floats: [6.100_535_4e-5, -6.103_515_6e-5], encoded: 0x8400_0400 },
    Half { word: 0xfbff_7bff, decoded: [65504.0, -65504.0],
        floats: [65519.996, -65520.0], encoded: 0xfc00_7bff },
    Half { word: 0xfc00_7c00, decoded: [f32::INFINITY, f32::NEG_INFINITY],
        floats: [f32::INFINITY, -1e20], encoded: 0xfc00_7c00 },
    Half { word: 0x3555_3c00, decoded: [1.0, 0.333_251_95],
        floats: [1.000_488_3, 1.001_464_8], encoded: 0x3c02_3c00 },
];

impl Answers {
    /// Asks a device, with the default variant's workgroups. Waits until the device has answered, as compiling does, and at most
    /// 30 s.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::OutOfMemory`], and [`Error::Device`] where wgpu refuses or the device does not answer.
    pub fn of(device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Self, Error> {
        let (driver, pipelines) = (Driver::of(device), Pipelines::new(device, None));
        Self::ask(device, queue, Variant::for_driver(&driver), &driver, &pipelines)
    }

    /// Asks in workgroups of the variant's `invocations` and `fold_invocations`, and of one subgroup.
    pub(crate) fn ask(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        variant: Variant,
        driver: &Driver,
        pipelines: &Pipelines,
    ) -> Result<Self, Error> {
        let known = if driver.subgroups { driver.subgroup_size } else { 0 };
        let most = driver.limits.max_compute_invocations_per_workgroup;
        let mut sizes = vec![variant.invocations, variant.fold_invocations];
        sizes.extend((known > 0 && known.is_power_of_two() && known <= most).then_some(known));
        sizes.sort_unstable();
        sizes.dedup();
        let asked: Vec<Asked> = sizes
            .into_iter()
            .map(|invocations| Asked { invocations, subgroups: driver.subgroups, one_subgroup: invocations == known })
            .collect();
        let words = run(device, queue, &asked, pipelines)?;
        Ok(answers(&asked, &words))
    }
}

/// A workgroup that is asked.
#[derive(Clone, Copy, Debug)]
struct Asked {
    invocations: u32,
    subgroups: bool,
    one_subgroup: bool,
}

fn halves() -> u32 {
    u32::try_from(HALVES.len()).expect("a few")
}

/// The words of an answer.
fn words() -> u32 {
    words::ANSWERS + 3 * halves()
}

/// The words that each of the workgroups answered.
fn run(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    asked: &[Asked],
    pipelines: &Pipelines,
) -> Result<Vec<Vec<u32>>, Error> {
    let mut questions = vec![1];
    questions.extend(HALVES.map(|half| half.word));
    questions.extend(HALVES.iter().flat_map(|half| half.floats.map(f32::to_bits)));
    let host: Vec<wgpu::Buffer> = checked(device, ASKING, || {
        let storage = wgpu::BufferUsages::STORAGE;
        let questions = buffer_with(device, "segloss: questions", bytemuck::cast_slice(&questions), storage);
        let mut encoder =
            device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("segloss: questions") });
        let host = asked.iter().map(|asked| {
            let answers = buffer(device, "segloss: answers", words(), storage | wgpu::BufferUsages::COPY_SRC);
            let text = compose::ask(asked.invocations, halves(), asked.subgroups, asked.one_subgroup).into();
            let accesses = vec![Access::Read, Access::ReadWrite];
            let compiled = pipelines.pipeline(text, "ask", &[], accesses, false);
            let entries = [Entry::whole(Access::Read, &questions), Entry::whole(Access::ReadWrite, &answers)];
            let group = bind_group(device, "segloss: ask", &compiled.layout, &entries);
            {
                let descriptor = wgpu::ComputePassDescriptor { label: Some("segloss: ask"), timestamp_writes: None };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                pass.set_pipeline(&compiled.pipeline);
                pass.set_bind_group(0, &group, &[]);
                pass.dispatch_workgroups(1, 1, 1);
            }
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let host = buffer(device, "segloss: answers, staging", words(), usage);
            encoder.copy_buffer_to_buffer(&answers, 0, &host, 0, host.size());
            encoder.map_buffer_on_submit(&host, wgpu::MapMode::Read, .., |_| {});
            host
        });
        let host: Vec<_> = host.collect();
        let index = queue.submit([encoder.finish()]);
        (host, device.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(WAIT) }))
    })
    .and_then(|(host, waited)| match waited {
        Ok(_) => Ok(host),
        Err(error) => Err(Error::Device { during: ASKING, message: error.to_string() }),
    })?;
    let read = |host: &wgpu::Buffer| {
        let view = host.get_mapped_range(..);
        view.map(|view| bytemuck::pod_collect_to_vec(&view))
            .map_err(|error| Error::Device { during: ASKING, message: error.to_string() })
    };
    host.iter().map(read).collect()
}

/// Compares with what is known. Each question has to be answered right in every workgroup that was asked it.
fn answers(asked: &[Asked], words: &[Vec<u32>]) -> Answers {
    let all = |is_right: &dyn Fn(&Asked, &[u32]) -> bool| {
        asked.iter().zip(words).all(|(asked, words)| is_right(asked, words))
    };
    let at = |words: &[u32], index: u32| words[index as usize];
    let halves = |words: &[u32]| words[words::ANSWERS as usize..].to_vec();
    let sum = |asked: &Asked| asked.invocations * (asked.invocations + 1) / 2;
    let decoded: Vec<u32> = HALVES.iter().flat_map(|half| half.decoded.map(f32::to_bits)).collect();
    let encoded: Vec<u32> = HALVES.iter().map(|half| half.encoded).collect();
    Answers {
        workgroup_sums: all(&|asked, words| {
            at(words, words::ASKED_SUM) == sum(asked) && at(words, words::ASKED_TREE) == sum(asked)
        }),
        subgroup_sums: all(&|asked, words| {
            let [total, least] = [words::ASKED_SUBGROUP_SUM, words::ASKED_SUBGROUP_LEAST].map(|word| at(words, word));
            asked.subgroups && total == sum(asked) && least == 0
        }),
        one_subgroup: asked.iter().any(|asked| asked.one_subgroup)
            && all(&|asked, words| !asked.one_subgroup || at(words, words::ASKED_OUT_OF_ORDER) == 0),
        workgroup_atomics: all(&|asked, words| {
            let n = asked.invocations;
            let thirds = [n.div_ceil(3), (n + 1) / 3, n / 3];
            let digits = words::ASKED_DIGITS as usize;
            words[digits] == n && words[digits + 1..digits + 4] == thirds
        }),
        decodes_f16: all(&|_, words| halves(words)[..decoded.len()] == decoded),
        encodes_f16: all(&|_, words| halves(words)[decoded.len()..] == encoded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::adapter::AdapterChoice;
    use std::time::Instant;

    /// What a device that is right answers.
    fn right(asked: &[Asked]) -> Vec<Vec<u32>> {
        let of = |asked: &Asked| {
            let n = asked.invocations;
            let sum = n * (n + 1) / 2;
            let digits = [n, n.div_ceil(3), (n + 1) / 3, n / 3];
            let decoded = HALVES.iter().flat_map(|half| half.decoded.map(f32::to_bits));
            let encoded = HALVES.iter().map(|half| half.encoded);
            [sum, sum, sum, 0, 0].into_iter().chain(digits).chain(decoded).chain(encoded).collect()
        };
        asked.iter().map(of).collect()
    }

    fn asked() -> Vec<Asked> {
        let of = |invocations, one_subgroup| Asked { invocations, subgroups: true, one_subgroup };
        vec![of(8, true), of(48, false), of(64, false)]
    }

    const ALL: Answers = Answers {
        workgroup_sums: true,
        subgroup_sums: true,
        one_subgroup: true,
        workgroup_atomics: true,
        decodes_f16: true,
        encodes_f16: true,
    };

    #[test]
    fn a_wrong_word_in_any_workgroup_is_a_wrong_answer_to_its_question_alone() {
        let (asked, right) = (asked(), right(&asked()));
        assert_eq!(answers(&asked, &right), ALL);
        for workgroup in 0..asked.len() {
            for word in 0..words() {
                let mut words = right.clone();
                words[workgroup][word as usize] ^= 1;
                let given = answers(&asked, &words);
                let halves = words::ANSWERS + 2 * halves();
                let expected = match word {
                    words::ASKED_SUM | words::ASKED_TREE => Answers { workgroup_sums: false, ..ALL },
                    words::ASKED_SUBGROUP_SUM | words::ASKED_SUBGROUP_LEAST => Answers { subgroup_sums: false, ..ALL },
                    words::ASKED_OUT_OF_ORDER => Answers { one_subgroup: workgroup != 0, ..ALL },
                    _ if word < words::ANSWERS => Answers { workgroup_atomics: false, ..ALL },
                    _ if word < halves => Answers { decodes_f16: false, ..ALL },
                    _ => Answers { encodes_f16: false, ..ALL },
                };
                assert_eq!(given, expected, "word {word} of workgroup {workgroup}");
            }
        }
    }

    /// The least of many times, since other tests run beside it.
    #[test]
    fn once_compiled_the_questions_are_answered_within_5_ms() {
        let (device, queue) = AdapterChoice::default().open().expect("an adapter");
        let (driver, pipelines) = (Driver::of(&device), Pipelines::new(&device, None));
        let variant = Variant::for_driver(&driver);
        let times = (0..50).map(|_| {
            let start = Instant::now();
            Answers::ask(&device, &queue, variant, &driver, &pipelines).expect("the device answers");
            start.elapsed()
        });
        let least = times.min().expect("times");
        println!("{least:?}");
        assert!(least < Duration::from_millis(5), "{least:?}");
    }

    #[test]
    fn a_device_without_subgroups_is_not_believed_to_have_them() {
        let asked = [Asked { invocations: 8, subgroups: false, one_subgroup: false }];
        let given = answers(&asked, &right(&asked));
        assert_eq!(given, Answers { subgroup_sums: false, one_subgroup: false, ..ALL });
    }

    #[test]
    fn the_halves_that_are_asked_are_those_of_the_half_crate() {
        for half in &HALVES {
            let of = |bits: u32| half::f16::from_bits(u16::try_from(bits).expect("16 bits")).to_f32().to_bits();
            let decoded = [half.word & 0xffff, half.word >> 16].map(of);
            assert_eq!(decoded, half.decoded.map(f32::to_bits), "{:08x}", half.word);
            let [low, high] = half.floats.map(|x| u32::from(half::f16::from_f32(x).to_bits()));
            assert_eq!(low | (high << 16), half.encoded, "{:?}", half.floats);
        }
    }
}
