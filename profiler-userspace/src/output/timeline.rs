//! What each thread did when: spans that do not overlap, as formats with a time axis have them.
//!
//! A wait lies where it lay. A sample stands for some time around its moment, and no more is known
//! than that a thread does one thing at a time: so samples share the time between the waits, in
//! their order, each as near to its moment as the others leave room. The sum of a thread's spans is
//! the sum of its events' times, to the nanosecond. What is no thread but stands for several can
//! have more of it than the recording took: then its spans go on behind the end.

use profiler_common::cause::Cause;

use super::view::{EventView, View};

/// One thing that a thread did, without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Nanoseconds since the recording began.
    pub(crate) begin_ns: u64,
    /// The same; later than `begin_ns`.
    pub(crate) end_ns: u64,
    /// Index of the stack.
    pub(crate) stack: u32,
    /// Why it waited; `None` on a CPU.
    pub(crate) cause: Option<Cause>,
    /// The system call that it waited in.
    pub(crate) syscall: Option<&'static str>,
}

impl Span {
    /// Its length, nanoseconds.
    pub(crate) fn ns(&self) -> u64 {
        self.end_ns - self.begin_ns
    }

    fn of(event: &EventView, begin_ns: u64, end_ns: u64) -> Self {
        Self {
            begin_ns,
            end_ns,
            stack: event.stack,
            cause: event.cause,
            syscall: event.syscall,
        }
    }

    /// Goes on with what `next` is, when that is the same and follows at once.
    fn join(&mut self, next: &Self) -> bool {
        let same = self.end_ns == next.begin_ns
            && (self.stack, self.cause, self.syscall) == (next.stack, next.cause, next.syscall);
        if same {
            self.end_ns = next.end_ns;
        }
        same
    }
}

/// The spans of all threads.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    /// Of each thread, by time.
    pub(crate) threads: Vec<Vec<Span>>,
    /// When the last of all ends, or the recording; nanoseconds since that began.
    pub(crate) end_ns: u64,
}

impl Timeline {
    pub(crate) fn of(view: &View) -> Self {
        let threads: Vec<Vec<Span>> = events_by_thread(view)
            .iter()
            .map(|events| spans(events, view.about.duration_ns))
            .collect();
        let ends = threads
            .iter()
            .filter_map(|spans| Some(spans.last()?.end_ns));
        let end_ns = ends.chain([view.about.duration_ns]).max().unwrap_or(0);
        Self { threads, end_ns }
    }
}

/// The events of each thread, in the order of the view.
pub(crate) fn events_by_thread(view: &View) -> Vec<Vec<&EventView>> {
    let mut threads = vec![Vec::new(); view.threads.len()];
    for event in &view.events {
        if let Some(events) = threads.get_mut(event.thread as usize) {
            events.push(event);
        }
    }
    threads
}

/// The spans of one thread, whose events come by time.
fn spans(events: &[&EventView], duration_ns: u64) -> Vec<Span> {
    let mut waits: Vec<Span> = Vec::new();
    let mut samples: Vec<&EventView> = Vec::new();
    for event in events.iter().filter(|event| event.ns != 0) {
        if event.cause.is_none() {
            samples.push(event);
            continue;
        }
        // A thread cannot wait twice at a time; several that stand together can.
        let begin = waits.last().map_or(0, |wait| wait.end_ns).max(event.at_ns);
        waits.push(Span::of(event, begin, begin + event.ns));
    }
    let begins = place(&samples, &waits, duration_ns);
    merge(&samples, &begins, &waits)
}

/// When each sample begins, in the time of the thread without its waits.
///
/// Of all ways without an overlap that which is nearest to having each sample's moment in its
/// middle: without the lengths of those before it, each one's begin may not be less than the one
/// before's, and the nearest such series is the isotonic regression (pool adjacent violators).
fn place(samples: &[&EventView], waits: &[Span], duration_ns: u64) -> Vec<u64> {
    struct Pool {
        sum: i128,
        count: i128,
    }
    let mut pools: Vec<Pool> = Vec::new();
    let mut waits_before = waits.iter().peekable();
    let (mut waited, mut before) = (0_u64, 0_u64);
    for sample in samples {
        while let Some(wait) = waits_before.next_if(|wait| wait.end_ns <= sample.at_ns) {
            waited += wait.ns();
        }
        let inside = waits_before
            .peek()
            .map_or(0, |wait| sample.at_ns.saturating_sub(wait.begin_ns));
        let moment = i128::from(sample.at_ns) - i128::from(waited + inside);
        let mut pool = Pool {
            sum: moment - i128::from(sample.ns / 2) - i128::from(before),
            count: 1,
        };
        while let Some(last) = pools.pop_if(|last| last.sum * pool.count > pool.sum * last.count) {
            pool.sum += last.sum;
            pool.count += last.count;
        }
        pools.push(pool);
        before += sample.ns;
    }
    let waited: u64 = waits.iter().map(Span::ns).sum();
    let room = duration_ns.saturating_sub(waited).saturating_sub(before);

    let mut begins = Vec::with_capacity(samples.len());
    let mut pools = pools.iter();
    let (mut best, mut left) = (0, 0);
    let (mut shift, mut before) = (0_u64, 0_u64);
    for sample in samples {
        if left == 0
            && let Some(pool) = pools.next()
        {
            best = pool.sum.div_euclid(pool.count).clamp(0, i128::from(room)) as u64;
            left = pool.count;
        }
        left -= 1;
        // A timer is never quite on time: what is next to each other but for that stays together.
        if best.saturating_sub(shift) >= sample.ns / 4 || begins.is_empty() {
            shift = best;
        }
        begins.push(shift + before);
        before += sample.ns;
    }
    begins
}

/// Waits, and samples between them, which waits cut in pieces.
fn merge(samples: &[&EventView], begins: &[u64], waits: &[Span]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::with_capacity(samples.len() + waits.len());
    let mut push = |span: Span| {
        if span.begin_ns < span.end_ns && !spans.last_mut().is_some_and(|last| last.join(&span)) {
            spans.push(span);
        }
    };
    let mut waits = waits.iter().peekable();
    let mut waited = 0;
    for (sample, begin) in samples.iter().zip(begins) {
        let mut begin = *begin;
        let end = begin + sample.ns;
        // A wait that begins where the sample ends comes after it.
        while let Some(wait) = waits.next_if(|wait| wait.begin_ns - waited < end) {
            let cut = (wait.begin_ns - waited).max(begin);
            push(Span::of(sample, begin + waited, cut + waited));
            push(*wait);
            waited += wait.ns();
            begin = cut;
        }
        push(Span::of(sample, begin + waited, end + waited));
    }
    waits.for_each(|wait| push(*wait));
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(at_ns: u64, ns: u64, stack: u32) -> EventView {
        EventView {
            at_ns,
            ns,
            thread: 0,
            stack,
            cause: None,
            syscall: None,
            holds_gil: false,
        }
    }

    fn wait(at_ns: u64, ns: u64, stack: u32) -> EventView {
        EventView {
            cause: Some(Cause::Sleep),
            ..sample(at_ns, ns, stack)
        }
    }

    fn of(events: &[EventView], duration_ns: u64) -> Vec<(u64, u64, u32)> {
        let events: Vec<&EventView> = events.iter().collect();
        spans(&events, duration_ns)
            .iter()
            .map(|span| (span.begin_ns, span.end_ns, span.stack))
            .collect()
    }

    #[test]
    fn a_sample_lies_around_its_moment_and_equal_neighbours_are_one() {
        let events = [sample(100, 10, 1), sample(111, 10, 1), sample(150, 10, 1)];
        assert_eq!(of(&events, 1000), [(95, 115, 1), (145, 155, 1)]);
    }

    #[test]
    fn samples_share_what_waits_leave() {
        // 30 ns of samples of a thread that had 10 ns before its wait, and 20 behind it.
        let events = [sample(5, 15, 1), wait(10, 70, 2), sample(90, 15, 3)];
        assert_eq!(
            of(&events, 100),
            [(0, 10, 1), (10, 80, 2), (80, 85, 1), (85, 100, 3)]
        );
    }

    #[test]
    fn what_has_more_time_than_there_was_goes_on_behind_the_end() {
        let events = [
            sample(5, 10, 1),
            sample(6, 10, 2),
            wait(8, 10, 3),
            wait(9, 10, 4),
        ];
        assert_eq!(
            of(&events, 20),
            [(0, 8, 1), (8, 18, 3), (18, 28, 4), (28, 30, 1), (30, 40, 2)]
        );
    }

    proptest! {
        #[test]
        fn no_time_is_lost_and_none_is_double(
            mut events in proptest::collection::vec(
                (0..1000_u64, 0..60_u64, 0..4_u32, any::<bool>()), 0..40),
        ) {
            events.sort_unstable();
            let events: Vec<EventView> = events
                .into_iter()
                .map(|(at, ns, stack, waits)| if waits {
                    wait(at, ns, stack)
                } else {
                    sample(at, ns, stack)
                })
                .collect();
            let spans = of(&events, 1000);
            prop_assert!(spans.windows(2).all(|two| two[0].1 <= two[1].0));
            prop_assert!(spans.iter().all(|span| span.0 < span.1));
            for stack in 0..4 {
                let are: u64 = spans.iter().filter(|s| s.2 == stack).map(|s| s.1 - s.0).sum();
                let were: u64 = events.iter().filter(|e| e.stack == stack).map(|e| e.ns).sum();
                prop_assert_eq!(are, were);
            }
        }
    }
}
