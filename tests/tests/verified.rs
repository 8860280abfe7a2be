//! The programs stay far from what the verifier takes, and both ways of counting agree.

use pyscry::bpf::{LoadOptions, Programs, verified};

const CEILING: u32 = 100_000;

#[test]
fn verified_instructions_are_few_and_counted_alike() {
    let options = LoadOptions {
        off_cpu: true,
        native: true,
        kernel: true,
        ..LoadOptions::default()
    };
    let told = Programs::load(&options)
        .expect("the programs load")
        .verified_instructions();
    let by_log = verified::by_log(&options).expect("the programs load again");
    assert_eq!(told, by_log);
    for (name, count) in told {
        let count = count.unwrap_or_else(|| panic!("{name} was not counted"));
        println!("{name}: {count} verified instructions");
        assert!((20..=CEILING).contains(&count), "{name}: {count}");
    }
}
