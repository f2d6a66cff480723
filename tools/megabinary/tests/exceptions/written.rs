//! Modules written by hand, one for each thing that can go wrong.

use crate::{legacy, lowered, standard};
use megabinary::read_wasi;

/// What all of them have: tags, a function that throws, and a table with it.
const AROUND: &str = r#"
    (memory (export "memory") 1)
    (func (export "_start"))
    (tag $e (param i32)) (tag $g (param i32)) (tag $n)
    (type $unary (func (param i32) (result i32)))
    (table 4 funcref)
    (elem (i32.const 0) $throws $twice $deep $nothing)
    (global $notes (mut i32) (i32.const 0))
    (func $note (param i32)
        (i32.store8 (global.get $notes) (local.get 0))
        (global.set $notes (i32.add (global.get $notes) (i32.const 1))))
    (func $throws (param i32) (result i32)
        (if (i32.eq (local.get 0) (i32.const 1)) (then (throw $e (i32.const 41))))
        (if (i32.eq (local.get 0) (i32.const 2)) (then (throw $g (i32.const 42))))
        (if (i32.eq (local.get 0) (i32.const 3)) (then (throw $n)))
        (if (i32.eq (local.get 0) (i32.const 5)) (then unreachable))
        (i32.add (local.get 0) (i32.const 100)))
    (func $twice (param i32) (result i32) (i32.mul (call $throws (local.get 0)) (i32.const 2)))
    (func $deep (param i32) (result i32)
        (if (result i32) (i32.gt_s (local.get 0) (i32.const 9)) (then (call $deep (i32.sub (local.get 0) (i32.const 1)))) (else (call $twice (i32.and (local.get 0) (i32.const 3))))))
    (func $nothing)
"#;

fn module(functions: &str) -> String {
    format!("(module {AROUND} {functions})")
}

fn f(body: &str) -> String {
    module(&format!(r#"(func $f (export "f") (param i32) (result i32) (local $x i32) {body})"#))
}

#[test]
fn a_try_of_the_older_form_catches_what_its_clauses_name_and_nothing_else() {
    legacy(&[
        f("(call $throws (local.get 0))"),
        f("(try (result i32) (do (call $throws (local.get 0))) (catch $e (i32.add (i32.const 1000))))"),
        f("(try (result i32) (do (call $deep (local.get 0))) (catch $e) (catch $g (i32.add (i32.const 7))) (catch_all (i32.const -5)))"),
        f("(try (result i32) (do (call $throws (local.get 0))) (catch $n (i32.const 3)) (catch_all (i32.const 4)))"),
        f("(try (result i32) (do (call $throws (local.get 0))))"),
        f("(try (result i32) (do (call_indirect (type $unary) (local.get 0) (i32.and (local.get 0) (i32.const 3)))) (catch_all (i32.const 9)))"),
        // Without results, and without anything in it.
        f("(try (do) (catch $e drop)) (try (do (call $note (call $throws (local.get 0)))) (catch $e (call $note)) (catch_all)) (i32.const 1)"),
    ]);
}

#[test]
fn tries_lie_in_one_another_and_clauses_throw_to_the_outside() {
    legacy(&[
        f("(try (result i32)
            (do (try (result i32) (do (call $throws (local.get 0))) (catch $e (call $note) (call $throws (i32.const 2)))))
            (catch $g (i32.add (i32.const 1))) (catch $n (i32.const 8)))"),
        f("(try (result i32)
            (do (i32.add (i32.const 50) (try (result i32) (do (call $throws (local.get 0))) (catch $g (i32.add (call $throws (i32.const 3)))))))
            (catch $e (i32.mul (i32.const 3))) (catch_all (i32.const 11)))"),
        // A try in a clause.
        f("(try (result i32) (do (call $throws (local.get 0)))
            (catch $e (try (param i32) (result i32) (do (i32.add (call $throws (i32.const 2)))) (catch $g)))
            (catch_all (try (result i32) (do (throw $e (i32.const 6))) (catch_all (i32.const 66)))))"),
        f("(try (result i32) (do (call $throws (local.get 0))) (catch_all (throw $e (i32.const 5))))"),
    ]);
}

#[test]
fn a_rethrow_from_any_depth_throws_what_that_clause_caught() {
    legacy(&[
        f("(try $outer (result i32) (do (try $t (result i32) (do (call $throws (local.get 0))) (catch_all (call $note (i32.const 1)) (rethrow $t)))) (catch $e) (catch $g (i32.add (i32.const 1))))"),
        // The outer one's exception from within the inner one's clause.
        f("(try (result i32)
            (do (try $a (result i32) (do (call $throws (local.get 0)))
                (catch $e drop (try $b (result i32) (do (throw $g (i32.const 9))) (catch $g drop (block $c (rethrow $a)) (i32.const 0))))
                (catch $g drop (try $b (result i32) (do (throw $e (i32.const 9))) (catch $e drop (rethrow $b))))))
            (catch $e) (catch $g (i32.add (i32.const 500))))"),
        // Caught again inside the clause, and then once more.
        f("(try $a (result i32) (do (call $throws (local.get 0)))
            (catch_all (try $b (do (rethrow $a)) (catch $e (call $note)) (catch_all (call $note (i32.const 4)))) (try (result i32) (do (rethrow $a)) (catch $n (i32.const 21)) (catch $g) (catch $e))))"),
    ]);
}

#[test]
fn what_is_delegated_is_thrown_where_the_label_is() {
    legacy(&[
        f("(try $t (result i32) (do (try (result i32) (do (call $throws (local.get 0))) (delegate $t))) (catch $e (i32.add (i32.const 1))))"),
        // Past a try that would catch it.
        f("(try $far (result i32)
            (do (try (result i32) (do (try (result i32) (do (call $throws (local.get 0))) (delegate $far))) (catch_all (i32.const 1))))
            (catch $e (i32.add (i32.const 300))))"),
        // To the caller.
        module(
            r#"(func $g (param i32) (result i32) (try (result i32) (do (try (result i32) (do (call $throws (local.get 0))) (delegate 1))) (catch_all (i32.const 1))))
            (func (export "f") (param i32) (result i32) (try (result i32) (do (call $g (local.get 0))) (catch $e (i32.add (i32.const 2))) (catch $g)))"#,
        ),
        // To a block, and to a clause: that is, outside of them.
        f(
            "(try (result i32) (do (block $b (result i32) (try (result i32) (do (try (result i32) (do (call $throws (local.get 0))) (delegate $b))) (catch_all (i32.const 1))))) (catch $e) (catch_all (i32.const 2)))",
        ),
        f(
            "(try (result i32) (do (try $c (result i32) (do (throw $n)) (catch $n (try (result i32) (do (call $throws (local.get 0))) (delegate $c))) (catch_all (i32.const 1)))) (catch_all (i32.const 2)))",
        ),
        // A delegate that delegates.
        f("(try $a (result i32) (do (try $b (result i32) (do (try (result i32) (do (call $throws (local.get 0))) (delegate $b))) (delegate $a))) (catch $g))"),
    ]);
}

#[test]
fn operands_below_results_and_branches_out_of_it_are_what_they_were() {
    let bodies = [
        // Operands below, parameters, several results.
        "(i32.add (i32.const 5) (try (result i32) (do (i32.add (i32.const 6) (call $throws (local.get 0)))) (catch $e)))",
        "(i32.add (i32.const 5) (i32.const 1) (try (param i32) (result i32) (do (i32.add (call $throws (local.get 0)))) (catch $e (i32.add (i32.const 1)))))",
        "(i32.add (try (result i32 i32) (do (i32.const 1) (call $throws (local.get 0))) (catch $e (i32.const 2)) (catch_all (i32.const 3) (i32.const 4))))",
        // Branches out of bodies and clauses, to the try itself, conditional, by table, and back to a loop.
        "(block $out (result i32) (try (do (br_if $out (i32.const 7) (i32.eq (local.get 0) (i32.const 0))) (drop) (local.set $x (call $throws (local.get 0)))) (catch $e (br $out)) (catch_all)) (local.get $x))",
        "(try $t (result i32) (do (br $t (call $throws (local.get 0)))) (catch $e (br $t (i32.const 3)) (drop)) (catch_all (br_if $t (i32.const 1) (local.get 0))))",
        "(loop $again (result i32)
            (local.set $x (i32.add (local.get $x) (i32.const 1)))
            (try (result i32) (do (call $throws (i32.rem_s (local.get $x) (i32.const 4))))
                (catch $e drop (br_if $again (i32.lt_s (local.get $x) (i32.const 20))) (local.get $x))
                (catch_all (br $again))))",
        "(block $a (block $b (block $c (try (do (br_table $a $b $c (call $throws (local.get 0)))) (catch $e (br_table $c $b $a))  (catch $g drop (return (i32.const 99))))) (return (i32.const 1))) (return (i32.const 2))) (i32.const 3)",
        // After it, nothing is in flight.
        "(try (do (local.set $x (call $throws (local.get 0)))) (catch $e (local.set $x)) (catch_all)) (i32.add (local.get $x) (call $throws (i32.const 7)))",
        "(try (result i32) (do (return (call $throws (local.get 0)))) (catch_all (return (i32.const 8))))",
        // Code behind what always throws.
        "(try (result i32) (do (throw $e (i32.const 2)) (i32.add) (call $throws)) (catch $e))",
    ];
    legacy(&bodies.map(f));
}

#[test]
fn a_try_table_goes_to_the_first_clause_that_fits() {
    standard(&[
        f("(call $deep (local.get 0))"),
        f("(block $e (result i32) (block $g (result i32) (return (try_table (result i32) (catch $e $e) (catch $g $g) (call $throws (local.get 0))))) (i32.add (i32.const 1)))"),
        f("(block $all (block $e (result i32) (return (try_table (result i32) (catch $e $e) (catch_all $all) (catch $g $e) (call $deep (local.get 0))))) (return (i32.add (i32.const 1)))) (i32.const -1)"),
        // A clause whose label is the function's.
        f("(try_table (result i32) (catch $e 0) (catch $g 0) (call $throws (local.get 0)))"),
        f("(drop (i32.const 1)) (block $n (return (try_table (result i32) (catch $n $n) (call_indirect (type $unary) (local.get 0) (i32.and (local.get 0) (i32.const 3)))))) (i32.const 5)"),
        // Parameters, operands below, several results.
        f("(i32.add (i32.const 5) (i32.const 1) (block $e (param i32) (result i32) (try_table (param i32) (result i32) (catch $e $e) (i32.add (call $throws (local.get 0))))))"),
        f("(block $e (result i32) (try_table (result i32 i32) (catch $e $e) (i32.const 1) (call $throws (local.get 0))) i32.add)"),
        // A branch to the try_table, and out of it.
        f("(block $e (result i32) (try_table $t (result i32) (catch $e $e) (br_if $t (i32.const 4) (i32.eqz (local.get 0))) (drop) (br $e (call $throws (local.get 0)))))"),
        f("(try_table (result i32) (return_call $throws (local.get 0)))"),
        module(r#"(func $g (param i32) (result i32) (block $a (try_table (catch_all $a) (return_call $throws (local.get 0)))) (i32.const 1))
            (func (export "f") (param i32) (result i32) (block $e (result i32) (try_table (result i32) (catch $e $e) (call $g (local.get 0)))))"#),
        module(r#"(func $g (param i32) (result i32) (block $a (try_table (catch_all $a) (return_call_indirect (type $unary) (local.get 0) (i32.const 1)))) (i32.const 1))
            (func (export "f") (param i32) (result i32) (block $e (result i32) (try_table (result i32) (catch $e $e) (call $g (local.get 0)))))"#),
        // In a loop.
        f("(loop $again (block $e (result i32) (try_table (catch $e $e) (local.set $x (i32.add (local.get $x) (call $throws (i32.and (local.get $x) (i32.const 1)))))) (return (local.get $x)))
            (call $note) (br_if $again (i32.lt_u (local.tee $x (i32.add (local.get $x) (i32.const 3))) (i32.const 50)))) (local.get $x)"),
    ]);
}

#[test]
fn caught_exceptions_are_values_that_can_be_kept_and_thrown_again() {
    standard(&[
        f(
            "(local $y exnref) (block $r (result exnref) (return (try_table (result i32) (catch_all_ref $r) (call $throws (local.get 0))))) (local.set $y) (call $note (i32.const 3)) (throw_ref (local.get $y))",
        ),
        // Caught again by its tag, the payload being the same.
        f("(local $y exnref) (block $r (result i32 exnref) (return (try_table (result i32) (catch_ref $e $r) (catch_ref $g $r) (call $throws (local.get 0)))))
            (local.set $y) (call $note)
            (block $g (result i32) (try_table (catch $g $g) (throw_ref (local.get $y))) (i32.const 1)) (i32.add (i32.const 1))"),
        f("(throw_ref (ref.null exn))"),
        f(
            "(local $y exnref) (if (local.get 0) (then (block $r (result exnref) (try_table (catch_all_ref $r) (throw $n)) (ref.null exn)) (local.set $y))) (ref.is_null (local.get $y))",
        ),
        f("(i32.add (ref.is_null (ref.null func)) (i32.add (ref.is_null (ref.null exn)) (ref.is_null (ref.func $f))))"),
        // In globals, parameters, results and selections.
        module(
            r#"(global $kept (mut exnref) (ref.null exn))
            (func $keep (param exnref i32) (result exnref) (global.set $kept (local.get 0)) (select (result exnref) (global.get $kept) (ref.null exn) (local.get 1)))
            (func (export "f") (param i32) (result i32) (local $y exnref)
                (block $r (result exnref) (return (try_table (result i32) (catch_all_ref $r) (call $throws (local.get 0)))))
                (local.set $y (call $keep (i32.and (local.get 0) (i32.const 1))))
                (block $e (result i32 exnref) (try_table (result i32 exnref) (catch_ref $e $e) (throw_ref (local.get $y)))) (ref.is_null) (i32.add))"#,
        ),
    ]);
}

#[test]
fn only_what_may_throw_is_looked_at_and_the_rest_is_as_it_was() {
    let text = r#"(module (memory (export "memory") 1) (tag $e (param i32)) (type $v (func)) (table 2 funcref) (elem (i32.const 0) $quiet)
        (func $quiet) (func $loud (throw $e (i32.const 1)))
        (func $asks (call $quiet) (call_indirect (type $v) (i32.const 0)))
        (func $holds (block $b (try_table (catch_all $b) (call $loud))))
        (func (export "_start") (call $asks) (call $holds)))"#;
    let module = lowered(&wat::parse_str(text).unwrap());
    let mut bodies = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(&module) {
        if let wasmparser::Payload::CodeSectionEntry(body) = payload.unwrap() {
            bodies.push(body.get_operators_reader().unwrap().into_iter().map(|o| format!("{:?}", o.unwrap())).collect::<Vec<_>>().join(" "));
        }
    }
    let looks: Vec<_> = bodies.iter().map(|b| b.contains("Global")).collect();
    // No function is put before `_start`: nothing gets there.
    assert_eq!(looks, [false, true, false, true, false]);
}

#[test]
fn what_cannot_be_lowered_is_refused_with_the_reason() {
    let whole = |text: &str| format!(r#"(module {text} (memory (export "memory") 1) (func (export "_start")))"#);
    let cases = [
        (r#"(import "env" "t" (tag (param i32)))"#, "imports env.t, a tag"),
        ("(tag (param i64))", "tag 0 has parameters other than one i32"),
        ("(tag) (tag (param i32 i32))", "tag 1 has parameters other than one i32"),
        ("(tag) (table 1 exnref)", "keeps caught exceptions in a table"),
        ("(tag) (func (throw 1))", "is not a valid module: unknown tag"),
        (r#"(tag) (import "wasi_snapshot_preview1" "fd_datasync" (func (param exnref) (result i32)))"#, "takes or gives a caught exception"),
        (r#"(tag) (import "wasi_snapshot_preview1" "fd_allocate" (func (param i32 exnref i64) (result i32)))"#, "takes or gives a caught exception"),
    ];
    for (text, reason) in cases {
        let error = read_wasi("m", &wat::parse_str(whole(text)).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("m: ") && error.contains(reason), "{text}: {error}");
    }
    read_wasi("m", &wat::parse_str(whole(r#"(tag (export "t") (param i32))"#)).unwrap()).unwrap();
}

#[test]
fn a_module_without_exceptions_stays_as_it_is() {
    let module = wat::parse_str(r#"(module (memory (export "memory") 1) (func $named (export "_start")))"#).unwrap();
    assert!(matches!(read_wasi("m", &module).unwrap().0, std::borrow::Cow::Borrowed(bytes) if bytes == module));
}
