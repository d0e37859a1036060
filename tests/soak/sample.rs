//! What is looked at every second, and whether it stays flat.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Instant,
};

use libp2p_autonat_v2::{
    client::{Sizes, Verdict},
    server::Load,
};

/// The columns, with what each may grow by from the third quarter of the time to the last: a tenth, and so much more.
const COLUMNS: [(&str, u64); 11] = [
    ("descriptors", 16),
    ("resident_kib", 8 * 1024),
    ("requests", 8),
    ("dials", 8),
    ("rate_entries", 50),
    ("queued", 8),
    ("addresses", 10),
    ("outcomes", 40),
    ("servers", 10),
    ("remembered_servers", 10),
    ("probes", 20),
];

/// One look at all of it.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    values: [u64; COLUMNS.len()],
    right: u64,
    unknown: u64,
    wrong: u64,
}

impl Sample {
    pub(crate) fn of_process(load: Load) -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").expect("it is Linux").count();
        let pages = fs::read_to_string("/proc/self/statm").expect("it is Linux");
        let resident: u64 = pages
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse().ok())
            .expect("a number of pages");
        let mut sample = Self::default();
        let of_server = [load.requests, load.dials, load.rate_entries, load.queued];
        sample.values[0] = descriptors as u64;
        // Pages of 4 KiB.
        sample.values[1] = resident * 4;
        for (value, size) in sample.values[2..].iter_mut().zip(of_server) {
            *value = size as u64;
        }
        sample
    }

    /// Sums up those of all clients.
    pub(crate) fn add_sizes(&mut self, sizes: Sizes) {
        let of_client = [
            sizes.addresses,
            sizes.outcomes,
            sizes.servers,
            sizes.remembered_servers,
            sizes.probes,
        ];
        for (value, size) in self.values[6..].iter_mut().zip(of_client) {
            *value += size as u64;
        }
    }

    pub(crate) fn add_verdict(&mut self, expected: Verdict, verdict: Option<Verdict>) {
        match verdict {
            Some(verdict) if verdict == expected => self.right += 1,
            None | Some(Verdict::Unknown) => self.unknown += 1,
            Some(_) => self.wrong += 1,
        }
    }

    fn line(&self) -> String {
        let values = self.values.iter().map(u64::to_string);
        let verdicts = [self.right, self.unknown, self.wrong].map(|count| count.to_string());
        values.chain(verdicts).collect::<Vec<_>>().join(",")
    }
}

pub(crate) struct Samples {
    all: Vec<Sample>,
    start: Instant,
    csv: File,
}

impl Samples {
    pub(crate) fn new(start: Instant) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak.csv");
        let mut csv = File::create(&path).expect("a file");
        println!("samples in {}", path.display());
        let names = COLUMNS.map(|(name, _)| name).join(",");
        writeln!(csv, "seconds,{names},right,unknown,wrong").expect("it can be written");
        Self {
            all: Vec::new(),
            start,
            csv,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn push(&mut self, sample: Sample) {
        let seconds = self.start.elapsed().as_secs();
        writeln!(self.csv, "{seconds},{}", sample.line()).expect("it can be written");
        self.all.push(sample);
    }

    /// The medians of a quarter of the time, from 0 to 3.
    fn medians(&self, quarter: usize) -> [u64; COLUMNS.len()] {
        let length = self.all.len() / 4;
        let quarter = &self.all[quarter * length..(quarter + 1) * length];
        std::array::from_fn(|column| {
            let mut values: Vec<u64> = quarter.iter().map(|it| it.values[column]).collect();
            values.sort_unstable();
            values[values.len() / 2]
        })
    }

    /// A table of medians and verdicts.
    pub(crate) fn summary(&self) -> String {
        let quarters = [0, 1, 2, 3].map(|quarter| self.medians(quarter));
        let mut table = format!("{} samples; medians of each quarter\n", self.all.len());
        for (column, (name, _)) in COLUMNS.iter().enumerate() {
            let medians = quarters.map(|medians| format!("{:>9}", medians[column]));
            let most = self.all.iter().map(|it| it.values[column]).max();
            let most = most.unwrap_or_default();
            let _ = writeln!(table, "{name:<20}{}   most {most}", medians.concat());
        }
        let sum = |of: fn(&Sample) -> u64| self.all.iter().map(of).sum::<u64>();
        let _ = write!(
            table,
            "verdicts: {} right, {} unknown, {} wrong",
            sum(|it| it.right),
            sum(|it| it.unknown),
            sum(|it| it.wrong)
        );
        table
    }

    /// Nothing grows, and the verdicts are right.
    pub(crate) fn are_flat(&self) {
        let (before, after) = (self.medians(2), self.medians(3));
        for (column, (name, slack)) in COLUMNS.iter().enumerate() {
            let (before, after) = (before[column], after[column]);
            let most = before + before / 10 + slack;
            assert!(after <= most, "{name} grew from {before} to {after}");
        }
        let last = &self.all[self.all.len() * 3 / 4..];
        let right: u64 = last.iter().map(|it| it.right).sum();
        let all: u64 = last.iter().map(|it| it.right + it.unknown + it.wrong).sum();
        assert!(all > 0, "no client stayed for long enough");
        // A liar's word counts until others contradict it.
        assert!(
            right * 100 >= all * 95,
            "{right} of {all} verdicts were right"
        );
    }
}
