//! The threads of the batcher, with a device that only pretends: rows keep their place, runs are full, failures reach
//! whom they concern.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::infer::session::Session;
use crate::infer::{Backend, Model, Port};
use crate::tensor::Element;

/// What a device did.
#[derive(Clone, Debug, PartialEq)]
enum Event {
    /// A run began, with the numbers of its rows.
    Began(Vec<i64>),
    /// A run is waited for.
    Awaited,
    /// A run ended.
    Ended,
}

#[derive(Default)]
struct Journal {
    events: Mutex<Vec<Event>>,
    changed: Condvar,
}

impl Journal {
    fn add(&self, event: Event) {
        self.events.lock().unwrap().push(event);
        self.changed.notify_all();
    }

    fn runs(&self) -> Vec<Vec<i64>> {
        let began = |event: &Event| if let Event::Began(rows) = event { Some(rows.clone()) } else { None };
        self.events.lock().unwrap().iter().filter_map(began).collect()
    }

    /// Waits until `count` runs have begun.
    fn wait_for_runs(&self, count: usize) {
        let events = self.events.lock().unwrap();
        let too_few =
            |events: &mut Vec<Event>| events.iter().filter(|event| matches!(event, Event::Began(_))).count() < count;
        let (_events, waited) = self.changed.wait_timeout_while(events, Duration::from_secs(20), too_few).unwrap();
        assert!(!waited.timed_out(), "{count} runs did not begin");
    }
}

/// Lets runs end one by one, or all of them.
#[derive(Default)]
struct Gate {
    permits: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    fn open(&self, runs: usize) {
        let mut permits = self.permits.lock().unwrap();
        *permits = permits.saturating_add(runs);
        self.changed.notify_all();
    }

    fn pass(&self) {
        let permits = self.permits.lock().unwrap();
        let (mut permits, waited) =
            self.changed.wait_timeout_while(permits, Duration::from_secs(20), |permits| *permits == 0).unwrap();
        assert!(!waited.timed_out(), "the test did not open the gate");
        *permits -= 1;
    }
}

/// What goes wrong in the run that has a row of this number.
#[derive(Clone, Copy, PartialEq)]
enum Harm {
    BeginFails,
    BeginPanics,
    FinishFails,
    FinishPanics,
    TooFewRows,
    OutputMissing,
    RowRefused,
}

/// A device and a model. Its input is one number for a row, its outputs a float that depends on it in an odd way, and the
/// number again.
struct Fake {
    room: AtomicUsize,
    run_time: Duration,
    row_time: Duration,
    gate: Option<Arc<Gate>>,
    harm: Option<(i64, Harm)>,
    journal: Arc<Journal>,
    /// The outputs of the last run.
    given: Arc<Mutex<Vec<Tensor>>>,
}

struct FakeRun {
    numbers: Vec<i64>,
    time: Duration,
    gate: Option<Arc<Gate>>,
    harm: Option<Harm>,
    journal: Arc<Journal>,
    given: Arc<Mutex<Vec<Tensor>>>,
}

impl Fake {
    fn with_room(room: usize) -> Self {
        Self {
            room: AtomicUsize::new(room),
            run_time: Duration::ZERO,
            row_time: Duration::ZERO,
            gate: None,
            harm: None,
            journal: Arc::default(),
            given: Arc::default(),
        }
    }

    fn gated(self) -> (Self, Arc<Gate>) {
        let gate = Arc::<Gate>::default();
        (Self { gate: Some(Arc::clone(&gate)), ..self }, gate)
    }
}

fn broken_device(reason: &str) -> InferError {
    InferError::Device { backend: "fake", reason: reason.into(), transient: true }
}

impl Joined for Fake {
    fn rows_at_a_time(&self) -> usize {
        self.room.load(SeqCst)
    }

    fn begin(&self, parts: &[Part<'_>]) -> Result<Box<dyn Running>, InferError> {
        let rows = |part: &Part<'_>| part.inputs[0].slice(part.start, part.count).unwrap().i64().unwrap().to_vec();
        let numbers: Vec<i64> = parts.iter().flat_map(rows).collect();
        assert!(parts.iter().all(|part| part.count > 0) && numbers.len() <= self.rows_at_a_time().max(1));
        self.journal.add(Event::Began(numbers.clone()));
        let harm = self.harm.filter(|(row, _)| numbers.contains(row)).map(|(_, harm)| harm);
        match harm {
            Some(Harm::BeginFails) => return Err(broken_device("begin")),
            Some(Harm::BeginPanics) => panic!("on purpose, in begin"),
            _ => {}
        }
        let time = self.run_time + self.row_time * u32::try_from(numbers.len()).unwrap();
        let (gate, journal, given) = (self.gate.clone(), Arc::clone(&self.journal), Arc::clone(&self.given));
        Ok(Box::new(FakeRun { numbers, time, gate, harm, journal, given }))
    }

    fn accept(&self, outputs: &[Tensor]) -> Result<(), InferError> {
        match self.harm {
            Some((row, Harm::RowRefused)) if outputs[1].i64().unwrap().contains(&row) => Err(broken_device("refused")),
            _ => Ok(()),
        }
    }
}

fn score(number: i64) -> f32 {
    (number as f32).sqrt() * 3.7 + 1.0
}

impl Running for FakeRun {
    fn finish(self: Box<Self>) -> Result<Vec<Tensor>, InferError> {
        self.journal.add(Event::Awaited);
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        std::thread::sleep(self.time);
        self.journal.add(Event::Ended);
        let mut numbers = self.numbers;
        match self.harm {
            Some(Harm::FinishFails) => return Err(broken_device("finish")),
            Some(Harm::FinishPanics) => panic!("on purpose, in finish"),
            Some(Harm::TooFewRows) => drop(numbers.pop()),
            _ => {}
        }
        let rows = numbers.len();
        let scores = numbers.iter().map(|&n| score(n)).collect();
        let mut outputs = vec![Tensor::from_f32(vec![rows, 1], scores).unwrap()];
        if self.harm != Some(Harm::OutputMissing) {
            outputs.push(Tensor::from_i64(vec![rows], numbers).unwrap());
        }
        self.given.lock().unwrap().clone_from(&outputs);
        Ok(outputs)
    }
}

fn numbers(range: std::ops::Range<i64>) -> Vec<Tensor> {
    vec![Tensor::from_i64(vec![range.clone().count()], range.collect()).unwrap()]
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// An answer that is awaited, and what its device time is added to.
struct Asked {
    answer: oneshot::Receiver<Outputs>,
    device_ns: Arc<AtomicU64>,
    rows: std::ops::Range<i64>,
}

async fn ask(client: &Client, rows: std::ops::Range<i64>) -> Asked {
    let (settle, answer) = oneshot::channel();
    let device_ns = Arc::<AtomicU64>::default();
    let inputs = numbers(rows.clone());
    let request = Request { inputs, settle, device_ns: Arc::clone(&device_ns), kept: Box::new(()) };
    client.submit(request).await.unwrap();
    Asked { answer, device_ns, rows }
}

impl Asked {
    async fn outputs(self) -> Outputs {
        let timed = tokio::time::timeout(Duration::from_secs(20), self.answer).await;
        timed.expect("an answer comes").expect("a request is answered")
    }

    /// The answer is that of these rows, in their order.
    async fn answers_rightly(self) {
        let rows = self.rows.clone();
        let outputs = self.outputs().await.unwrap();
        let scores: Vec<f32> = rows.clone().map(score).collect();
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(outputs[0].f32().unwrap()), bits(&scores));
        assert_eq!(outputs[0].shape(), [scores.len(), 1]);
        assert_eq!(outputs[1].i64().unwrap(), rows.collect::<Vec<_>>());
    }
}

fn client(fake: Fake) -> (Client, Arc<Journal>) {
    let journal = Arc::clone(&fake.journal);
    (Batcher::start().client(Arc::new(fake), "tenant").unwrap(), journal)
}

/// Fills the device, three runs of `room` rows, so that what is asked for next waits until its gate is opened.
async fn fill(client: &Client, room: i64, journal: &Journal) -> Asked {
    let asked = ask(client, 100_000..100_000 + 3 * room).await;
    journal.wait_for_runs(3);
    asked
}

#[test]
fn threads_that_each_wait_for_one_row_share_runs() {
    let (client, journal) = client(Fake { run_time: Duration::from_millis(2), ..Fake::with_room(256) });
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let client = &client;
            scope.spawn(move || {
                block_on(async {
                    for i in 0..40 {
                        let row = thread * 1000 + i;
                        ask(client, row..row + 1).await.answers_rightly().await;
                    }
                });
            });
        }
    });
    let runs = journal.runs();
    let rows: usize = runs.iter().map(Vec::len).sum();
    println!("{rows} rows in {} runs", runs.len());
    // Two groups of four that take turns are the steady state.
    assert_eq!(rows, 320);
    assert!(runs.len() <= 320 / 2, "{} runs", runs.len());
}

#[test]
fn a_script_by_file_is_about_as_fast_as_one_by_batch() {
    let time = |rows: i64| {
        let device =
            Fake { run_time: Duration::from_millis(1), row_time: Duration::from_micros(20), ..Fake::with_room(256) };
        let (client, journal) = client(device);
        let began = Instant::now();
        block_on(async {
            let mut asked = Vec::new();
            for start in (0..2048).step_by(usize::try_from(rows).unwrap()) {
                asked.push(ask(&client, start..start + rows).await);
            }
            for asked in asked {
                asked.answers_rightly().await;
            }
        });
        (began.elapsed(), journal.runs().len())
    };
    let (by_batch, by_file) = (time(128), time(1));
    println!("2048 rows by batches of 128: {by_batch:?}; one by one: {by_file:?} (time, runs)");
    // One run for each row would take 2 s, against 50 ms.
    assert!(by_file.0 < by_batch.0 * 6, "{by_file:?} against {by_batch:?}");
    assert!(by_file.1 <= 2048 / 16, "{by_file:?}");
}

#[test]
fn sixteen_clients_and_one_of_another_tenant_share_a_device_in_halves() {
    let (device, gate) = Fake { run_time: Duration::from_millis(1), ..Fake::with_room(16) }.gated();
    let journal = Arc::clone(&device.journal);
    let (batcher, device): (_, Arc<dyn Joined>) = (Batcher::start(), Arc::new(device));
    let many: Vec<_> = (0..16).map(|_| batcher.client(Arc::clone(&device), "many").unwrap()).collect();
    let one = batcher.client(device, "one").unwrap();
    // Each has more waiting than half the device does in the three hundred runs that are counted.
    let fill_up = |client: &Client| {
        block_on(async {
            let mut asked = Vec::new();
            for _ in 0..CLIENT_WAITING {
                asked.push(ask(client, 0..40).await);
            }
            asked
        })
    };
    let (many_asked, one_asked) = std::thread::scope(|scope| {
        let many: Vec<_> = many.iter().map(|client| scope.spawn(|| fill_up(client))).collect();
        let one = scope.spawn(|| fill_up(&one));
        (many.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>(), one.join().unwrap())
    });
    gate.open(300);
    // The last is charged before its successor begins.
    journal.wait_for_runs(303);
    let used = |asked: &[Asked]| asked.iter().map(|asked| asked.device_ns.load(SeqCst)).sum::<u64>() as f64;
    let ratio = used(&many_asked) / used(&one_asked);
    println!("device time, many to one: {ratio:.3}");
    assert!((0.9..1.1).contains(&ratio), "{ratio}");
    // The rest is given up, and does not run.
    drop((many_asked, one_asked));
    gate.open(usize::MAX);
    drop((many, one));
    assert!(journal.runs().len() <= 304, "{}", journal.runs().len());
}

#[test]
fn a_late_tenant_waits_for_what_is_in_flight_and_no_more() {
    let (device, gate) = Fake::with_room(64).gated();
    let journal = Arc::clone(&device.journal);
    let (batcher, device): (_, Arc<dyn Joined>) = (Batcher::start(), Arc::new(device));
    let greedy = batcher.client(Arc::clone(&device), "greedy").unwrap();
    let late = batcher.client(device, "late").unwrap();
    block_on(async {
        let mut asked = Vec::new();
        for start in 0..20 {
            asked.push(ask(&greedy, start * 64..start * 64 + 64).await);
        }
        journal.wait_for_runs(3);
        let its = ask(&late, 9999..10000).await;
        gate.open(usize::MAX);
        its.answers_rightly().await;
        for asked in asked {
            asked.answers_rightly().await;
        }
    });
    assert!(
        journal.runs()[3].contains(&9999),
        "it is in run {:?}",
        journal.runs().iter().position(|r| r.contains(&9999))
    );
}

#[test]
fn a_large_request_is_cut_and_answered_in_order() {
    let (client, journal) = client(Fake::with_room(256));
    block_on(async { ask(&client, 0..4096).await.answers_rightly().await });
    let runs = journal.runs();
    assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [256; 16]);
    assert_eq!(runs.concat(), (0..4096).collect::<Vec<_>>());
}

#[test]
fn rows_give_the_same_alone_and_in_any_company() {
    // Requests of all sizes, so that they are cut everywhere; bits are compared with what each row gives alone.
    let (device, gate) = Fake::with_room(7).gated();
    let (client, journal) = client(device);
    let mut rows = 0;
    block_on(async {
        let mut asked = vec![fill(&client, 7, &journal).await];
        for i in 0..60 {
            let count = i * 5 % 23 + 1;
            asked.push(ask(&client, rows..rows + count).await);
            rows += count;
        }
        gate.open(usize::MAX);
        for asked in asked {
            asked.answers_rightly().await;
        }
    });
    let runs = &journal.runs()[3..];
    assert!(runs[..runs.len() - 1].iter().all(|run| run.len() == 7), "runs are full");
    assert_eq!(runs.concat(), (0..rows).collect::<Vec<_>>());
}

#[test]
fn runs_grow_smaller_when_the_device_has_less_room() {
    let fake = Arc::new(Fake::with_room(32));
    let client = Batcher::start().client(Arc::clone(&fake) as Arc<dyn Joined>, "tenant").unwrap();
    block_on(async {
        ask(&client, 0..64).await.answers_rightly().await;
        fake.room.store(8, SeqCst);
        ask(&client, 0..16).await.answers_rightly().await;
    });
    assert_eq!(fake.journal.runs().iter().map(Vec::len).collect::<Vec<_>>(), [32, 32, 8, 8]);
}

#[test]
fn three_runs_are_in_flight_and_the_next_begins_before_the_last_is_there() {
    let (device, gate) = Fake::with_room(8).gated();
    let (client, journal) = client(device);
    block_on(async {
        let asked = ask(&client, 0..40).await;
        journal.wait_for_runs(3);
        tokio::time::sleep(Duration::from_millis(30)).await;
        let first: Vec<_> = journal.events.lock().unwrap().iter().filter(|e| **e != Event::Awaited).cloned().collect();
        assert_eq!(first.len(), 3, "three begin before any ends, and no more: {first:?}");
        gate.open(1);
        journal.wait_for_runs(4);
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(journal.runs().len(), 4);
        gate.open(usize::MAX);
        asked.answers_rightly().await;
    });
    let mut in_flight = 0i32;
    for event in journal.events.lock().unwrap().iter() {
        in_flight += match event {
            Event::Began(_) => 1,
            Event::Awaited => 0,
            Event::Ended => -1,
        };
        assert!((0..=3).contains(&in_flight));
    }
}

#[test]
fn failures_and_panics_reach_the_requests_of_their_run_and_no_others() {
    let cases = [
        (Harm::BeginFails, "fake failed: begin"),
        (Harm::BeginPanics, "session failed: the engine panicked"),
        (Harm::FinishFails, "fake failed: finish"),
        (Harm::FinishPanics, "session failed: the engine panicked"),
        (Harm::TooFewRows, "session failed: an output has 3 rows where 4 were asked for"),
    ];
    for (harm, text) in cases {
        let (device, gate) = Fake { harm: Some((5, harm)), ..Fake::with_room(4) }.gated();
        let (client, journal) = client(device);
        block_on(async {
            let mut others = vec![fill(&client, 4, &journal).await];
            for row in 0..4 {
                others.push(ask(&client, row..row + 1).await);
            }
            // They run together; row 5 does harm, and row 7 belongs to a larger request.
            let mut with = Vec::new();
            for rows in [4..5, 5..6, 6..7, 7..100] {
                with.push(ask(&client, rows).await);
            }
            gate.open(usize::MAX);
            for asked in with {
                assert_eq!(asked.outputs().await.unwrap_err().to_string(), text);
            }
            let ran = journal.runs().len();
            for row in 30..34 {
                others.push(ask(&client, row..row + 1).await);
            }
            for asked in others {
                asked.answers_rightly().await;
            }
            // The rest of it does not run; two runs may have begun before the broken one ended, and one while it did.
            assert!(ran <= 5 + 3, "{ran} runs");
        });
    }
}

#[test]
fn a_request_whose_runs_differ_in_their_outputs_fails() {
    let (client, _) = client(Fake { harm: Some((5, Harm::OutputMissing)), ..Fake::with_room(4) });
    let error = block_on(async { ask(&client, 0..8).await.outputs().await.unwrap_err() });
    assert!(error.to_string().contains("differ in their number of outputs"), "{error}");
}

#[test]
fn what_is_wrong_with_a_row_concerns_its_request_alone() {
    let (device, gate) = Fake { harm: Some((5, Harm::RowRefused)), ..Fake::with_room(8) }.gated();
    let (client, journal) = client(device);
    block_on(async {
        let mut others = vec![fill(&client, 8, &journal).await];
        others.push(ask(&client, 0..5).await);
        let refused = ask(&client, 5..6).await;
        others.push(ask(&client, 6..8).await);
        gate.open(usize::MAX);
        assert_eq!(refused.outputs().await.unwrap_err().to_string(), "fake failed: refused");
        for asked in others {
            asked.answers_rightly().await;
        }
    });
    assert_eq!(journal.runs()[3], (0..8).collect::<Vec<_>>());
}

#[test]
fn requests_that_were_given_up_do_not_run() {
    let (device, gate) = Fake::with_room(8).gated();
    let (client, journal) = client(device);
    block_on(async {
        let first = ask(&client, 0..24).await;
        journal.wait_for_runs(3);
        let given_up = [ask(&client, 100..101).await, ask(&client, 200..230).await];
        let kept = ask(&client, 300..303).await;
        drop(given_up);
        gate.open(usize::MAX);
        first.answers_rightly().await;
        kept.answers_rightly().await;
    });
    assert!(journal.runs().concat().iter().all(|row| !(100..300).contains(row)), "{:?}", journal.runs());
}

#[test]
fn a_client_waits_when_as_much_of_it_waits_as_may() {
    let (device, gate) = Fake::with_room(4).gated();
    let (client, journal) = client(device);
    block_on(async {
        // What is in flight waits no more.
        let mut asked = Vec::new();
        for rows in [0..4, 4..8, 8..12] {
            asked.push(ask(&client, rows).await);
        }
        journal.wait_for_runs(3);
        for row in 0..i64::try_from(CLIENT_WAITING).unwrap() {
            asked.push(ask(&client, row..row + 1).await);
        }
        let one_more = tokio::time::timeout(Duration::from_millis(30), ask(&client, 7..8));
        assert!(one_more.await.is_err(), "it did not wait");
        gate.open(usize::MAX);
        asked.push(ask(&client, 8..9).await);
        for asked in asked {
            asked.answers_rightly().await;
        }
    });
}

#[test]
fn a_small_part_of_a_run_does_not_keep_the_rest_in_memory() {
    let (device, gate) = Fake::with_room(64).gated();
    let fake = Arc::new(device);
    let client = Batcher::start().client(Arc::clone(&fake) as Arc<dyn Joined>, "tenant").unwrap();
    let outputs = block_on(async {
        let _others = fill(&client, 64, &fake.journal).await;
        let asked = [ask(&client, 0..1).await, ask(&client, 1..63).await, ask(&client, 63..64).await];
        gate.open(usize::MAX);
        let mut outputs = Vec::new();
        for asked in asked {
            outputs.push(asked.outputs().await.unwrap());
        }
        outputs
    });
    assert_eq!(fake.journal.runs().len(), 4);
    let given = fake.given.lock().unwrap();
    let all = given[0].f32().unwrap().as_ptr_range();
    let is_view = |outputs: &Vec<Tensor>| all.contains(&outputs[0].f32().unwrap().as_ptr());
    assert_eq!(outputs.iter().map(is_view).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn the_threads_end_with_the_last_client_and_begin_with_the_next() {
    let fake = Arc::new(Fake { run_time: Duration::from_millis(5), ..Fake::with_room(4) });
    let batcher = Batcher::start();
    for _ in 0..3 {
        let client = batcher.client(Arc::clone(&fake) as Arc<dyn Joined>, "one").unwrap();
        let other = batcher.client(Arc::clone(&fake) as Arc<dyn Joined>, "two").unwrap();
        let asked = block_on(ask(&client, 0..20));
        drop(client);
        assert_eq!(batcher.0.lock().unwrap().threads.len(), 2);
        drop(other);
        assert!(batcher.0.lock().unwrap().threads.is_empty());
        assert_eq!(Arc::strong_count(&fake), 1, "the threads have let go of the model");
        // What waited has been answered.
        block_on(asked.answers_rightly());
    }
}

/// A model that breaks its promise.
struct Broken;

impl Joined for Broken {
    fn rows_at_a_time(&self) -> usize {
        panic!("on purpose, outside of any run")
    }

    fn begin(&self, _parts: &[Part<'_>]) -> Result<Box<dyn Running>, InferError> {
        Err(broken_device("begin"))
    }
}

#[test]
fn nobody_waits_for_threads_that_have_ended() {
    let batcher = Batcher::start();
    let client = batcher.client(Arc::new(Broken), "tenant").unwrap();
    block_on(async {
        let asked = ask(&client, 0..1).await;
        assert!(tokio::time::timeout(Duration::from_secs(20), asked.answer).await.unwrap().is_err());
        let (settle, _answer) = oneshot::channel();
        let request = Request { inputs: numbers(0..1), settle, device_ns: Arc::default(), kept: Box::new(()) };
        assert!(matches!(client.submit(request).await, Err(InferError::Device { transient: true, .. })));
    });
    drop(client);
    let client = batcher.client(Arc::new(Fake::with_room(4)), "tenant").unwrap();
    block_on(async { ask(&client, 0..1).await.answers_rightly().await });
}

#[test]
fn requests_without_rows_or_with_odd_ones_are_refused() {
    let (client, journal) = client(Fake::with_room(4));
    for inputs in [vec![], numbers(0..0), [numbers(0..2), numbers(0..3)].concat()] {
        let (settle, _answer) = oneshot::channel();
        let request = Request { inputs, settle, device_ns: Arc::default(), kept: Box::new(()) };
        assert!(matches!(block_on(client.submit(request)), Err(InferError::Input(_))));
    }
    assert!(journal.runs().is_empty());
}

#[test]
fn rows_of_different_shapes_do_not_run_together() {
    let (client, journal) = client(Fake::with_room(64));
    let pair = vec![Tensor::from_i64(vec![1, 2], vec![70, 71]).unwrap()];
    let (settle, _answer) = oneshot::channel();
    block_on(async {
        let asked = ask(&client, 0..3).await;
        client.submit(Request { inputs: pair, settle, device_ns: Arc::default(), kept: Box::new(()) }).await.unwrap();
        asked.answers_rightly().await;
    });
    drop(client);
    assert_eq!(journal.runs(), [vec![0, 1, 2], vec![70, 71]]);
}

/// A backend with one model, and its device.
struct FakeBackend(Arc<Batcher>, Arc<Fake>);

struct FakeModel {
    batcher: Arc<Batcher>,
    fake: Arc<Fake>,
    port: [Port; 1],
}

impl Backend for FakeBackend {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn describe(&self) -> String {
        "a device that only pretends".into()
    }

    fn open(&self, _path: &std::path::Path) -> Result<Box<dyn Model>, InferError> {
        let port = [Port { name: "row".into(), shape: vec![None], element: Element::I64 }];
        Ok(Box::new(FakeModel { batcher: Arc::clone(&self.0), fake: Arc::clone(&self.1), port }))
    }
}

impl Model for FakeModel {
    fn inputs(&self) -> &[Port] {
        &self.port
    }

    fn outputs(&self) -> &[Port] {
        &self.port
    }

    fn joined(&self) -> Option<(Arc<Batcher>, Arc<dyn Joined>)> {
        Some((Arc::clone(&self.batcher), Arc::clone(&self.fake) as Arc<dyn Joined>))
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        assert_eq!(inputs[0].rows(), 0, "rows go to the device's queue");
        Ok(inputs.to_vec())
    }
}

#[test]
fn sessions_of_one_model_share_runs_and_need_no_device_for_no_rows() {
    let (fake, gate) = Fake::with_room(64).gated();
    let backend = FakeBackend(Batcher::start(), Arc::new(fake));
    let open = |tenant| Session::open_for(&backend, std::path::Path::new("a.onnx"), tenant).unwrap();
    let sessions = [open("a"), open("b"), Session::open(&backend, std::path::Path::new("b.onnx")).unwrap()];
    let device_ns = Arc::<AtomicU64>::default();
    block_on(async {
        let empty = sessions[0].predict(numbers(0..0), &device_ns, Box::new(())).await.unwrap();
        assert_eq!(empty.outputs().await.unwrap()[0].rows(), 0);
        let busy = sessions[0].predict(numbers(0..64), &device_ns, Box::new(())).await.unwrap();
        backend.1.journal.wait_for_runs(1);
        let mut answers = Vec::new();
        for (row, session) in (100..).zip(&sessions) {
            answers.push(session.predict(numbers(row..row + 1), &device_ns, Box::new(())).await.unwrap());
        }
        gate.open(usize::MAX);
        busy.outputs().await.unwrap();
        for (row, answer) in (100..).zip(answers) {
            assert_eq!(answer.outputs().await.unwrap()[1].i64().unwrap(), [row]);
        }
    });
    let mut runs = backend.1.journal.runs();
    runs[1].sort_unstable();
    assert_eq!(runs[1..], [vec![100, 101, 102]]);
    assert!(device_ns.load(SeqCst) > 0);
}
