use super::*;

const BREG6: u8 = 0x76;
const BREG7: u8 = 0x77;
const BREG9: u8 = 0x79;
const BREG10: u8 = 0x7a;
const BREG16: u8 = 0x80;
const DEREF: u8 = 0x06;
const AND: u8 = 0x1a;
const MINUS: u8 = 0x1c;
const MUL: u8 = 0x1e;
const PLUS: u8 = 0x22;
const PLUS_UCONST: u8 = 0x23;
const SHL: u8 = 0x24;
const GE: u8 = 0x2a;
const LIT0: u8 = 0x30;

fn of(bytes: &[u8], first: Option<Value>) -> Option<Value> {
    evaluate(Expression(EndianSlice::new(bytes, LittleEndian)), first)
}

const fn register(number: u8) -> Base {
    Base::Register(number)
}

#[test]
fn what_compilers_and_linkers_write() {
    // GCC, in functions that align their stack: where the stack pointer was before is saved.
    assert_eq!(
        of(&[BREG6, 0x78, DEREF], None),
        Some(Value::Load(register(6), -8, 0))
    );
    let cfa = Some(Value::Sum(Base::Cfa, 0));
    assert_eq!(of(&[BREG6, 0], cfa), Some(Value::Sum(register(6), 0)));
    assert_eq!(of(&[BREG10, 0], None), Some(Value::Sum(register(10), 0)));
    // OpenSSL
    assert_eq!(
        of(&[BREG7, 0x28, DEREF, PLUS_UCONST, 8], None),
        Some(Value::Load(register(7), 0x28, 8))
    );
    assert_eq!(
        of(
            &[
                BREG7,
                0x38,
                BREG9,
                0,
                LIT0 + 8,
                MUL,
                PLUS,
                DEREF,
                PLUS_UCONST,
                8
            ],
            None
        ),
        Some(Value::Load(Base::Indexed(7, 9), 0x38, 8))
    );
    // ld, for .plt
    for from in [9, 10, 11] {
        assert_eq!(
            of(
                &[
                    BREG7,
                    8,
                    BREG16,
                    0,
                    LIT0 + 15,
                    AND,
                    LIT0 + from,
                    GE,
                    LIT0 + 3,
                    SHL,
                    PLUS
                ],
                None
            ),
            Some(Value::Plt(7, 8, from.into()))
        );
    }
}

#[test]
fn other_ways_to_the_same() {
    let indexed = Some(Value::Load(Base::Indexed(7, 9), 4, 0));
    for bytes in [
        &[BREG7, 4, BREG9, 0, LIT0 + 3, SHL, PLUS, DEREF][..],
        &[BREG9, 0, LIT0 + 3, SHL, BREG7, 4, PLUS, DEREF],
        &[
            LIT0 + 8,
            BREG9,
            0,
            MUL,
            BREG7,
            0,
            PLUS,
            LIT0 + 4,
            PLUS,
            DEREF,
        ],
        &[
            BREG7,
            6,
            BREG9,
            0,
            LIT0 + 8,
            MUL,
            PLUS,
            LIT0 + 2,
            MINUS,
            DEREF,
        ],
    ] {
        assert_eq!(of(bytes, None), indexed);
    }
}

#[test]
fn what_no_rule_says() {
    for bytes in [
        &[][..],
        &[DEREF],
        &[BREG7],
        &[BREG7, 0, PLUS],
        &[0x57],
        &[BREG7, 0, DEREF, DEREF],
        &[BREG7, 0, BREG6, 0, PLUS],
        &[BREG9, 1, LIT0 + 8, MUL],
        &[BREG9, 0, LIT0 + 4, MUL],
        &[BREG9, 0, LIT0 + 2, SHL],
        &[LIT0 + 3, BREG9, 0, SHL],
        &[LIT0 + 8, BREG9, 0, MINUS],
        &[BREG16, 1, LIT0 + 15, AND],
        &[BREG16, 0, LIT0 + 7, AND],
        &[LIT0 + 11, BREG16, 0, LIT0 + 15, AND, GE],
        &[BREG7, 0, 0x94, 4],
        &[0x92, 17, 0],
        &[0x2f, 0xfd, 0xff],
    ] {
        assert_eq!(of(bytes, None), None, "{bytes:x?}");
    }
    // Overflows, a full stack, and no end.
    let mut sum = vec![BREG7];
    sum.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    sum.extend([PLUS_UCONST, 1]);
    assert_eq!(of(&sum, None), None);
    assert_eq!(of(&[LIT0; MAX_VALUES + 1], None), None);
    assert_eq!(of(&[0x96; 100], Some(Value::Constant(0))), None);
}
