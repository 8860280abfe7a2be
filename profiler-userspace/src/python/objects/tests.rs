//! Tests of the readers over a synthetic target.

use std::ops::ControlFlow;

use super::image::Image;
use super::text::str_is;
use super::*;

const MINORS: [u8; 8] = [8, 9, 10, 11, 12, 13, 14, 15];

fn str_of(image: &Image, addr: u64) -> Result<String, ObjectError> {
    read_str(image, &image.layout, addr, 100)
}

fn items(image: &Image, table: ItemTable) -> Result<Vec<(u64, u64)>, ObjectError> {
    let mut items = Vec::new();
    table.for_each(image, |key, value| {
        items.push((key, value));
        ControlFlow::<()>::Continue(())
    })?;
    Ok(items)
}

#[test]
fn strings_of_every_kind() {
    for minor in MINORS {
        let mut image = Image::new(minor);
        for text in [
            "",
            "a",
            "worker-1",
            "arbeiter-ü",
            "ÿ",
            "工人",
            "a工\u{ffff}",
            "😀 astral",
        ] {
            let addr = image.str(text);
            assert_eq!(str_of(&image, addr).as_deref(), Ok(text), "3.{minor}");
            let addr = image.sub_str(text);
            assert_eq!(str_of(&image, addr).as_deref(), Ok(text), "3.{minor}");
        }
    }
}

#[test]
fn strings_of_a_version_not_known() {
    assert_eq!(ObjectLayout::of_minor(7), None);
    assert_eq!(ObjectLayout::of_minor(16), None);
}

#[test]
fn offsets_that_cannot_be() {
    let mut image = Image::new(13);
    let str = image.str("text");
    let int = image.int(5);
    let nowhere = u64::MAX;
    let good = image.layout;
    for layout in [
        ObjectLayout {
            ob_type: nowhere,
            ..good
        },
        ObjectLayout {
            type_flags: nowhere,
            ..good
        },
        ObjectLayout {
            str_length: nowhere,
            ..good
        },
        ObjectLayout {
            str_state: nowhere,
            ..good
        },
        ObjectLayout {
            str_ascii_size: nowhere,
            ..good
        },
        ObjectLayout {
            int_digits: nowhere,
            int_size: 16,
            ..good
        },
    ] {
        let is_str = read_str(&image, &layout, str, 100);
        let is_int = read_int(&image, &layout, int);
        assert!(is_str.is_err() || is_int.is_err());
    }
}

#[test]
fn a_lone_surrogate_is_replaced() {
    let mut image = Image::new(12);
    let addr = image.raw_str(2, false, &[0x66, 0xdcff]);
    assert_eq!(str_of(&image, addr).as_deref(), Ok("f\u{fffd}"));
}

#[test]
fn broken_strings() {
    for minor in MINORS {
        let mut image = Image::new(minor);
        assert_eq!(str_of(&image, 0), Err(ObjectError::Fault));
        assert_eq!(str_of(&image, u64::MAX - 8), Err(ObjectError::Fault));
        let bytes = image.bytes_object(b"0123456789abcdef0123456789abcdef");
        assert_eq!(str_of(&image, bytes), Err(ObjectError::NotAStr));

        let addr = image.str("short");
        image.put_u64(addr + 16, 101);
        assert_eq!(
            str_of(&image, addr),
            Err(ObjectError::TooLong { len: 101, max: 100 })
        );
        image.put_u64(addr + 16, u64::MAX);
        let too_long = ObjectError::TooLong {
            len: u64::MAX,
            max: 100,
        };
        assert_eq!(str_of(&image, addr), Err(too_long));
        // More characters than there are, and more than memory could hold.
        image.put_u64(addr + 16, 99);
        assert_eq!(str_of(&image, addr), Err(ObjectError::Fault));
        image.put_u64(addr + 16, (usize::MAX / 2) as u64);
        let read = read_str(&image, &image.layout, addr, usize::MAX);
        assert_eq!(read, Err(ObjectError::Fault));

        let addr = image.raw_str(1, true, &[0x61, 0xe4]);
        assert!(matches!(str_of(&image, addr), Err(ObjectError::Broken(_))));
        for (kind, ascii) in [(0, false), (3, false), (5, false), (7, false), (2, true)] {
            let addr = image.raw_str(kind, ascii, &[0x61; 8]);
            assert!(
                matches!(str_of(&image, addr), Err(ObjectError::Broken(_))),
                "{kind}"
            );
        }
        let addr = image.raw_str(4, false, &[0x61, 0x11_0000]);
        assert!(matches!(str_of(&image, addr), Err(ObjectError::Broken(_))));
    }
}

#[test]
fn a_string_that_is_not_ready() {
    for minor in MINORS {
        let mut image = Image::new(minor);
        let addr = image.sub_str("wide");
        image.put(addr + 32, &[0]);
        let not_ready = str_of(&image, addr) == Err(ObjectError::NotReady);
        assert_eq!(not_ready, minor <= 11, "3.{minor}");
        assert!(str_of(&image, addr).is_err());
    }
}

#[test]
fn a_string_compared() {
    let mut image = Image::new(11);
    let addr = image.str("threading");
    assert_eq!(str_is(&image, &image.layout, addr, "threading"), Ok(true));
    assert_eq!(str_is(&image, &image.layout, addr, "threadinh"), Ok(false));
    assert_eq!(str_is(&image, &image.layout, addr, "thread"), Ok(false));
    let other = image.str("gewinde-ö");
    assert_eq!(str_is(&image, &image.layout, other, "gewinde-o"), Ok(false));
    assert_eq!(
        str_is(&image, &image.layout, 1, "thread"),
        Err(ObjectError::Fault)
    );
}

#[test]
fn bytes_objects() {
    for minor in MINORS {
        let mut image = Image::new(minor);
        let long = vec![7; PIECE_BYTES + 9];
        for value in [&b""[..], b"\0\xff", &long] {
            let addr = image.bytes_object(value);
            let read = read_bytes(&image, &image.layout, addr, long.len());
            assert_eq!(read.as_deref(), Ok(value));
        }
        let addr = image.bytes_object(b"four");
        let read = read_bytes(&image, &image.layout, addr, 3);
        assert_eq!(read, Err(ObjectError::TooLong { len: 4, max: 3 }));
        image.put_u64(addr + 16, -1i64 as u64);
        let read = read_bytes(&image, &image.layout, addr, usize::MAX);
        assert_eq!(read, Err(ObjectError::Fault));
        let str = image.str("str");
        let read = read_bytes(&image, &image.layout, str, 3);
        assert_eq!(read, Err(ObjectError::NotBytes));
    }
}

#[test]
fn ints() {
    for minor in MINORS {
        let mut image = Image::new(minor);
        for value in [0, 1, 0x3fff_ffff, 0x4000_0000, 0x7f12_3456_7000, u64::MAX] {
            let addr = image.int(value);
            assert_eq!(
                read_int(&image, &image.layout, addr),
                Ok(value),
                "3.{minor}"
            );
        }
        let addr = image.int(5);
        image.put_u64(
            addr + 16,
            if minor <= 11 {
                -1i64 as u64
            } else {
                1 << 3 | 2
            },
        );
        assert!(read_int(&image, &image.layout, addr).is_err());
        let addr = image.int(u64::MAX);
        image.put_units(addr + 24, 4, &[0x3fff_ffff; 3]);
        assert!(read_int(&image, &image.layout, addr).is_err());
        image.put_units(addr + 24, 4, &[0x4000_0000]);
        assert!(read_int(&image, &image.layout, addr).is_err());
        let str = image.str("12");
        assert_eq!(
            read_int(&image, &image.layout, str),
            Err(ObjectError::NotAnInt)
        );
    }
}

#[test]
fn a_dict_with_tombstones() {
    for minor in MINORS {
        let mut image = Image::new(minor);
        for general in [true, false] {
            let dict = image.dict(general, &[(0, 0), (1, 2), (3, 0), (0, 0), (4, 5), (0, 0)]);
            let table = ItemTable::of_dict(&image, &image.layout, dict);
            let found = items(&image, table.unwrap());
            assert_eq!(found, Ok(vec![(1, 2), (4, 5)]), "3.{minor}");
            // Indices of two bytes, and several pieces of entries.
            let many: Vec<_> = (1..200).map(|n| (n, n * 10)).collect();
            let dict = image.dict(general, &many);
            let table = ItemTable::of_dict(&image, &image.layout, dict);
            assert_eq!(items(&image, table.unwrap()), Ok(many), "3.{minor}");
        }
    }
}

#[test]
fn an_empty_dict() {
    for minor in MINORS {
        let mut image = Image::new(minor);
        // `empty_keys_struct`, `Objects/dictobject.c`.
        let keys = image.alloc(if minor <= 10 { 48 } else { 40 });
        match minor {
            ..=10 => image.put_u64(keys + 8, 1),
            _ => image.put(keys + 8, &[0, 3, 1]),
        }
        let dict = image.dict_of(keys, 0);
        let table = ItemTable::of_dict(&image, &image.layout, dict).unwrap();
        assert_eq!(items(&image, table), Ok(vec![]), "3.{minor}");
    }
}

#[test]
fn broken_dicts() {
    for minor in MINORS {
        let mut image = Image::new(minor);
        let of_dict =
            |image: &Image, addr| ItemTable::of_dict(image, &image.layout, addr).unwrap_err();
        let str = image.str("no dict");
        assert_eq!(of_dict(&image, str), ObjectError::NotADict);
        let lost = image.dict_of(0x1000, 0);
        assert_eq!(of_dict(&image, lost), ObjectError::Fault);
        let keys = image.keys(true, &[(1, 2)]);
        let dict = image.dict_of(keys, 0);
        let count = keys + if minor <= 10 { 32 } else { 24 };
        image.put_u64(count, 9);
        assert!(matches!(of_dict(&image, dict), ObjectError::Broken(_)));
        image.put_u64(count, -1i64 as u64);
        assert!(matches!(of_dict(&image, dict), ObjectError::TooLong { .. }));
        image.put_u64(count, 1);
        let sizes: &[u64] = if minor <= 10 {
            &[0, 7, 1 << 40, u64::MAX]
        } else {
            &[0x0000, 0x0304, 0x1620, 0xffff, 0x03_0303, u64::MAX]
        };
        for size in sizes {
            image.put_u64(keys + 8, *size);
            assert!(
                matches!(of_dict(&image, dict), ObjectError::Broken(_)),
                "{size:#x}"
            );
        }
    }
}

#[test]
fn attributes_of_an_instance() {
    for minor in MINORS {
        let mut image = Image::new(minor);
        let names = ["_target", "_name", "_args"].map(|name| (image.str(name), 0));
        let keys = image.keys(false, &names);
        let value = image.int(7);
        let with = image.instance(keys, &[0, value, value]);
        let table = ItemTable::of_instance(&image, &image.layout, with).unwrap();
        assert_eq!(
            table.find(&image, &image.layout, "_name"),
            Ok(Some(value)),
            "3.{minor}"
        );
        assert_eq!(
            table.find(&image, &image.layout, "_target"),
            Ok(None),
            "3.{minor}"
        );
        assert_eq!(
            table.find(&image, &image.layout, "other"),
            Ok(None),
            "3.{minor}"
        );

        // Its dict was asked for, and is not split.
        let dict = image.dict(false, &[(names[1].0, 99)]);
        let slot = if minor <= 10 { with + 16 } else { with - 24 };
        image.put_u64(slot, dict);
        let table = ItemTable::of_instance(&image, &image.layout, with).unwrap();
        assert_eq!(
            table.find(&image, &image.layout, "_name"),
            Ok(Some(99)),
            "3.{minor}"
        );
        // No attribute at all.
        let without = image.instance(keys, &[0, 0, 0]);
        image.put_u64(
            if minor <= 10 {
                without + 16
            } else {
                without - 24
            },
            0,
        );
        image.put_u64(without - 32, 0);
        let table = ItemTable::of_instance(&image, &image.layout, without).unwrap();
        assert_eq!(items(&image, table), Ok(vec![]), "3.{minor}");
    }
}

#[test]
fn inline_values_out_of_use() {
    for minor in [13, 14, 15] {
        let mut image = Image::new(minor);
        let name = image.str("_name");
        let keys = image.keys(false, &[(name, 0), (name, 0)]);
        let object = image.instance(keys, &[5]);
        let table = ItemTable::of_instance(&image, &image.layout, object).unwrap();
        // Only as many as there is room for.
        assert_eq!(items(&image, table), Ok(vec![(name, 5)]));
        // `valid`.
        image.put(object + 16 + 3, &[0]);
        let table = ItemTable::of_instance(&image, &image.layout, object).unwrap();
        assert_eq!(items(&image, table), Ok(vec![]));
    }
}

#[test]
fn a_key_that_cannot_be_read() {
    let mut image = Image::new(13);
    let name = image.str("_name");
    let dict = image.dict(false, &[(0x10, 1), (name, 2)]);
    let table = ItemTable::of_dict(&image, &image.layout, dict).unwrap();
    assert_eq!(table.find(&image, &image.layout, "_name"), Ok(Some(2)));
    assert_eq!(
        table.find(&image, &image.layout, "_other"),
        Err(ObjectError::Fault)
    );
}
