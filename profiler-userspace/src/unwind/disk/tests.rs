use super::*;

fn rows() -> Rows {
    let other = Rule {
        cfa_offset: -5,
        cfa_second: -6,
        ra_offset: -7,
        rbp_offset: -8,
        ..Rule::END
    };
    let rows = vec![
        Row {
            address: 0x40_1000,
            rule: Rule::END,
        },
        Row {
            address: 0x40_1001,
            rule: other,
        },
        Row {
            address: 0x50_0000,
            rule: Rule::END,
        },
        Row {
            address: 0xffff_ffff,
            rule: Rule::NONE,
        },
    ];
    let stats = CompileStats {
        rows: rows.len(),
        functions: 2,
        analyzed: 3,
        unsupported: 1,
    };
    Rows { rows, stats }
}

#[test]
fn what_was_stored_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    assert_eq!(disk.load(&[1; 20]), None);
    disk.store(&[1; 20], &rows()).unwrap();
    disk.store(&[2; 20], &Rows::default()).unwrap();
    assert_eq!(disk.load(&[1; 20]), Some(rows()));
    assert_eq!(disk.load(&[2; 20]), Some(Rows::default()));
    assert_eq!(disk.load(&[3; 20]), None);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn files_without_a_build_id_are_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    for id in [&[][..], &[1], &[1; 65]] {
        disk.store(id, &rows()).unwrap();
        assert_eq!(disk.load(id), None);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_file_is_ignored_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    disk.store(&[1; 20], &rows()).unwrap();
    let path = disk.path(&[1; 20]).unwrap();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x80;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(disk.load(&[1; 20]), None, "byte {at}");
        fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(disk.load(&[1; 20]), None, "{at} bytes");
    }
    disk.store(&[1; 20], &rows()).unwrap();
    assert_eq!(disk.load(&[1; 20]), Some(rows()));
}

#[test]
fn no_file_is_ours() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let path = disk.path(&[1; 20]).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert_eq!(disk.load(&[1; 20]), None);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(disk.load(&[1; 20]), None);
    assert!(disk.store(&[1; 20], &rows()).is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_a_checksum_does_not_find() {
    let forge = |at: usize, byte: u8| {
        let mut content = encode(&rows()).unwrap();
        content[at] = byte;
        let sum = checksum(&content);
        content[HEADER - 8..HEADER].copy_from_slice(&sum.to_le_bytes());
        decode(&content)
    };
    assert!(forge(32, 2).is_some(), "another count of unsupported rows");
    assert_eq!(forge(12, 200), None, "rules that are not there");
    assert_eq!(forge(19, 255), None, "rows that are not there");
    assert_eq!(forge(HEADER, 6), None, "a kind of rule that is none");
    assert_eq!(forge(HEADER + 1, 16), None, "a register that is none");
    let distances = HEADER + 3 * RULE;
    assert_eq!(forge(distances + 4, 0), None, "two rows at one address");
    assert_eq!(
        forge(distances + 16, 3),
        None,
        "a rule's number that is none"
    );
}

#[test]
fn what_does_not_fit() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let far = Rows {
        rows: vec![
            Row {
                address: 0,
                rule: Rule::END,
            },
            Row {
                address: 1 << 32,
                rule: Rule::NONE,
            },
        ],
        stats: CompileStats::default(),
    };
    assert!(matches!(disk.store(&[1; 20], &far), Err(DiskError::Unfit)));
}
