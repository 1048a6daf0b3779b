;; The step that the figures are measured with: it answers with its input, so that what is measured is the way in, the
;; way out and everything around them, and nothing of a guest's own. An empty object gets a setback instead, which parks
;; a run whose workflow retries. Written as a component by hand, so that measuring needs no toolchain for guests.
(component
  (core module $guest
    (memory (export "memory") 1)

    ;; From 64: the record `description`, an address and a length for each text, and no wants.
    (data (i32.const 64)
      "\00\04\00\00" "\04\00\00\00"
      "\04\04\00\00" "\05\00\00\00"
      "\09\04\00\00" "\17\00\00\00"
      "\20\04\00\00" "\02\00\00\00"
      "\20\04\00\00" "\02\00\00\00"
      "\00\00\00\00" "\00\00\00\00")
    (data (i32.const 1024) "echo" "0.1.0" "Answers with its input." "{}" "Not yet.")

    ;; Only ever allocates, behind the texts. A kibibyte and the context's texts fit into the memory's first page: growing it
    ;; costs both sides of a figure the same two system calls, and would hide what lies between them.
    (global $free (mut i32) (i32.const 4096))
    (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32) (local $missing i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get $size)))
      (local.set $missing (i32.sub
        (i32.shr_u (i32.add (global.get $free) (i32.const 65535)) (i32.const 16))
        (memory.size)))
      (if (i32.gt_s (local.get $missing) (i32.const 0))
        (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then unreachable))))
      (local.get $at))

    (func (export "describe") (result i32) (i32.const 64))

    ;; From 512: the result. The case, then from 8 the output, or the failure's case and from 16 the failure.
    (func (export "run")
      (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $input i32) (param $input_len i32) (result i32)
      (if (i32.eq (local.get $input_len) (i32.const 2))
        (then
          (i32.store8 (i32.const 512) (i32.const 1))
          (i32.store8 (i32.const 520) (i32.const 1))
          (i32.store (i32.const 528) (i32.const 1058))
          (i32.store (i32.const 532) (i32.const 8)))
        (else
          (i32.store (i32.const 520) (local.get $input))
          (i32.store (i32.const 524) (local.get $input_len))))
      (i32.const 512)))

  (core instance $guest (instantiate $guest))
  (alias core export $guest "memory" (core memory $memory))
  (alias core export $guest "cabi_realloc" (core func $realloc))
  (alias core export $guest "describe" (core func $describe))
  (alias core export $guest "run" (core func $run))

  ;; A function that is exported may only mention types that have a name, which they get by being exported as well.
  (type $want_ (record (field "capability" string) (field "reason" string)))
  (export $want "want" (type $want_))
  (type $description_ (record
    (field "name" string)
    (field "version" string)
    (field "summary" string)
    (field "input-schema" string)
    (field "output-schema" string)
    (field "wants" (list $want))))
  (export $description "description" (type $description_))
  (type $context_ (record
    (field "run" string)
    (field "workflow" string)
    (field "step" string)
    (field "attempt" u32)
    (field "idempotency-key" string)
    (field "timeout-ms" (option u64))))
  (export $context "context" (type $context_))
  (type $problem_ (record (field "message" string) (field "details" (option string))))
  (export $problem "problem" (type $problem_))
  (type $setback_ (record
    (field "message" string)
    (field "details" (option string))
    (field "retry-after-ms" (option u64))))
  (export $setback "setback" (type $setback_))
  (type $failure_ (variant
    (case "invalid-input" $problem)
    (case "transient" $setback)
    (case "permanent" $problem)))
  (export $failure "failure" (type $failure_))

  (func $describe_lifted (result $description)
    (canon lift (core func $describe) (memory $memory)))
  (func $run_lifted (param "context" $context) (param "input" string) (result (result string (error $failure)))
    (canon lift (core func $run) (memory $memory) (realloc $realloc)))

  (instance $step
    (export "describe" (func $describe_lifted))
    (export "run" (func $run_lifted)))
  (export "downbeat:step/step@0.1.0" (instance $step)))
