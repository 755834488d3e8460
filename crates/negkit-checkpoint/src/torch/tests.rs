//! Pickles written by hand: what Python 2 and old versions of PyTorch wrote, and what attackers may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::pickle::{self, Geometry, Pickle, PickleError};
use super::select::{SelectError, StateDict, select};

fn chosen(program: &[u8]) -> Result<(Pickle, StateDict), SelectError> {
    let pickle = pickle::read(program).unwrap();
    let state = select(&pickle.arena, pickle.root, None)?;
    Ok((pickle, state))
}

fn concat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Instructions that push a float tensor `[2, 3]` at offset 1 of the storage "7", which is a view of
/// a storage from its element 10 on, as the legacy format has it.
fn tensor() -> Vec<u8> {
    concat(&[
        b"ctorch._utils\n_rebuild_tensor\n(",
        b"(U\x07storagectorch\nFloatStorage\nU\x017U\x03cpuM\x00\x01(U\x018K\x0aK\x10ttQ",
        b"K\x01(K\x02K\x03t(K\x03K\x01ttR",
    ])
}

#[test]
fn an_ordered_dict_of_python_2_is_read() {
    let t = tensor();
    let program = concat(&[
        b"\x80\x02ccollections\nOrderedDict\nq\x00]q\x01(",
        b"]q\x02(U\x01wq\x03",
        &t,
        b"e]q\x04(U\x05steps",
        b"I12\nee\x85R.",
    ]);
    let (pickle, state) = chosen(&program).unwrap();
    assert_eq!(pickle.consumed, program.len());
    assert_eq!(state.metadata["steps"], "12");
    let tensor = state.tensors["w"];
    assert_eq!(pickle.arena.key(tensor.storage).unwrap(), "7");
    assert_eq!(tensor.storage.view_offset, 10);
    assert_eq!(tensor.storage.elements, 256);
    let expected = Geometry {
        offset: 1,
        shape: vec![2, 3],
        strides: vec![3, 1],
    };
    assert_eq!(pickle.arena.geometry(tensor), Some(expected));
}

#[test]
fn text_forms_of_protocol_0_are_read() {
    let t = tensor();
    let program = concat(&[
        b"(dp0\nS'text \\x41\\n'\np1\nI-5\nsVsnowman \\u2603\nL123456789012345678901234L\nsS\"yes\"\nI01\n",
        b"sS'float'\nF-1.5e3\nsS'w'\n",
        &t,
        b"sg1\nI6\ns.",
    ]);
    let (_, state) = chosen(&program).unwrap();
    let metadata: Vec<_> = state
        .metadata
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let expected = [
        ("float", "-1500"),
        ("snowman \u{2603}", "123456789012345678901234"),
        // The later of two values of one key counts.
        ("text A\n", "6"),
        ("yes", "true"),
    ];
    assert_eq!(metadata, expected);
}

#[test]
fn a_function_that_only_an_attack_needs_is_refused_in_every_form() {
    let stack_global = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.";
    let memoized = b"\x80\x04\x8c\x06system\x94\x8c\x02os\x94h\x01h\x00\x93.";
    let dotted = b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93.";
    let through_subclass =
        concat(&[b"ctorch._tensor\n_rebuild_from_type_v2\n(cposix\nsystem\nN(U\x02idtNtR."]);
    for program in [
        &b"cos\nsystem\n(S'id'\ntR."[..],
        b"cposix\nsystem\n.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"(S'id'\nios\nsystem\n.",
        b"(cnt\nsystem\nS'id'\no.",
        stack_global,
        memoized,
        dotted,
        &through_subclass,
        // Nothing is asked of it: the name alone is enough.
        b"}U\x01wcsubprocess\nPopen\ns.",
        b"ccollections\nOrderedDict\n(cos\nsystem\n(S'id'\ntRtR.",
    ] {
        let error = pickle::read(program).unwrap_err();
        assert!(matches!(error, PickleError::Forbidden { .. }), "{error}");
    }
    let error = pickle::read(stack_global).unwrap_err().to_string();
    assert!(
        error.contains("`os.system`") && error.contains("byte 14"),
        "{error}"
    );
}

#[test]
fn a_call_of_an_unknown_class_is_an_object_and_no_tensor() {
    let program =
        b"}(U\x01wcsome.library\nmake_tensor\n(K\x01tRU\x01xcsome\nThing\n)\x81}U\x01aK\x01sbu.";
    let error = chosen(program).unwrap_err();
    let found = vec!["w".to_owned(), "x".to_owned()];
    assert_eq!(error, SelectError::NoTensors { found });
}

#[test]
fn what_is_no_pickle_is_an_error() {
    let long = [&b"c"[..], &[b'a'; 2000], b"\nb\n."].concat();
    for program in [
        &b""[..],
        b".",
        b"N",
        b"\x80\x06N.",
        b"(.",
        b"t.",
        b"a.",
        b"]NNa",
        b"Ns.",
        b"}(Nu.",
        b"NNa.",
        b"g7\n.",
        b"h\x07.",
        b"p1\n.",
        b"NNR.",
        b"I12",
        b"Ix\n.",
        b"Fx\n.",
        b"Sx\n.",
        b"S'\\x4'\n.",
        b"V\\u12\n.",
        b"NQ.",
        b"(U\x07storageNNNNtQ.",
        b"P123\n.",
        b"\x82\x01.",
        b"\x97.",
        b"\xff.",
        b"NN\x93.",
        b"(o.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR.",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"ctorch._utils\n_rebuild_parameter\n)R.",
        b"ccollections\nOrderedDict\n](NNNe\x85R.",
        b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._tensor\n_rebuild_from_type_v2\nN)NtR.",
        // Lengths beyond the input: nothing may be allocated for them.
        b"X\xff\xff\xff\xffa.",
        b"T\xff\xff\xff\xffa.",
        b"\x8b\xff\xff\xff\xff.",
        b"\x8b\xff\xff\xff\x7f.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffa.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",
        &long,
    ] {
        let error = pickle::read(program);
        assert!(error.is_err(), "{:?}", String::from_utf8_lossy(program));
    }
}

#[test]
fn deep_nesting_costs_no_recursion() {
    const DEPTH: usize = 1_000_000;
    let nested = [vec![b']'; DEPTH], vec![b'a'; DEPTH - 1], vec![b'.']].concat();
    let pickle = pickle::read(&nested).unwrap();
    assert_eq!(pickle.arena.items(pickle.root).unwrap().len(), 1);

    let dicts = b"}U\x01k".repeat(DEPTH);
    let nested = [dicts, vec![b'N'], vec![b's'; DEPTH], vec![b'.']].concat();
    assert_eq!(chosen(&nested).unwrap_err(), SelectError::TooComplex);
}

#[test]
fn dictionaries_that_hold_themselves_are_an_error() {
    let cycle = concat(&[b"}q\x00(U\x01wh\x00U\x01vh\x00u."]);
    assert_eq!(chosen(&cycle).unwrap_err(), SelectError::TooComplex);
    let t = tensor();
    let cycle = concat(&[b"}q\x00(U\x01w", &t, b"U\x04selfh\x00u."]);
    assert_eq!(chosen(&cycle).unwrap_err(), SelectError::TooComplex);
    // A list is not walked into, so that one is merely useless.
    let list = b"]q\x00h\x00a.";
    assert!(matches!(chosen(list), Err(SelectError::NoTensors { .. })));
}

#[test]
fn few_bytes_cannot_stand_for_many_tensors() {
    // Thirty dictionaries, each holding the one before ten times: 10^30 paths, with and without a
    // tensor at the end of them.
    let bomb = |innermost: &[u8]| {
        let mut program = concat(&[b"}(U\x01w", innermost, b"uq\x00"]);
        for level in 0..30_u8 {
            program.extend(b"0}(");
            for entry in b'a'..=b'j' {
                program.extend([b'U', 1, entry, b'h', level]);
            }
            program.extend([b'u', b'q', level + 1]);
        }
        // Around it a dictionary with a tensor of its own, so that all of it is flattened.
        concat(&[b"}(U\x04deep", &program, b"U\x01w", &tensor(), b"u."])
    };
    for innermost in [tensor(), b"N".to_vec()] {
        assert_eq!(
            chosen(&bomb(&innermost)).unwrap_err(),
            SelectError::TooComplex
        );
    }

    // One list of pairs, made into a dictionary again and again.
    let mut program = b"](".to_vec();
    for _ in 0..10_000 {
        program.extend(b"](NNe");
    }
    program.extend(b"eq\x00");
    for _ in 0..10_000 {
        program.extend(b"ccollections\nOrderedDict\nh\x00\x85R");
    }
    program.push(b'.');
    let error = pickle::read(&program).unwrap_err();
    assert!(matches!(error, PickleError::TooLarge { .. }), "{error}");

    let many = vec![b'N'; 5_000_000];
    let error = pickle::read(&many).unwrap_err();
    assert!(matches!(error, PickleError::TooLarge { .. }), "{error}");
}
