//! Closures, a trait object and a function that is generic over what it calls itself with.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNTER: AtomicU64 = AtomicU64::new(0);

#[inline(never)]
fn spin() {
    println!("ready");
    loop {
        COUNTER.fetch_add(1, Ordering::Relaxed);
    }
}

struct Wrap<T>(T);

trait Down {
    fn down(&self, acts: &dyn Fn(u64) -> u64) -> u64;
}

impl Down for u64 {
    #[inline(never)]
    fn down(&self, acts: &dyn Fn(u64) -> u64) -> u64 {
        acts(*self) + COUNTER.load(Ordering::Relaxed)
    }
}

impl<T: Down> Down for Wrap<T> {
    #[inline(never)]
    fn down(&self, acts: &dyn Fn(u64) -> u64) -> u64 {
        self.0.down(acts) + COUNTER.load(Ordering::Relaxed)
    }
}

#[inline(never)]
fn dropped(text: String, value: &dyn Down) -> u64 {
    let more = text.clone();
    let got = value.down(&|a| {
        spin();
        a + more.len() as u64
    });
    got + text.len() as u64
}

fn main() {
    let value = Wrap(Wrap(Wrap(black_box(7_u64))));
    let got = dropped(black_box("text".to_owned()), black_box(&value));
    black_box(got);
}
