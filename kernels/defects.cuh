// Deliberate defects: tests/mutations.rs switches them on one at a time, and each must be noticed.
//
// The emulation has them all. For nvcc `broken` is a constant, and nothing of a defect is left in the code.
#pragma once

enum Defect : int {
    TAP_READS_NEXT_ROW = 1,
    LEFT_BORDER_OFF_BY_ONE,
    CLIPPED_PAIR_TAKEN_FOR_FREE,
    NO_BARRIER_BEFORE_SLICE_IS_USED,
    NO_BARRIER_AFTER_SLICE_IS_USED,
    NO_BARRIER_BETWEEN_STAGES,
    COPIES_NOT_AWAITED,
    GRADIENT_READS_PIXEL_TOO_MANY,
    GRADIENT_TAP_OFF_BY_ONE,
    GRADIENT_STORES_PADDING,
    UNPOOLING_FORGETS_FREE_MAXIMUM,
    NO_BARRIER_IN_SUM_OF_CHANGE,
    NO_BARRIER_BEFORE_LANES_MEET,
    NO_BARRIER_WHILE_LANES_MEET,
    GRADIENT_GOES_TO_NEXT_OF_WINDOW,
    NORMALISATION_PASSES_ON_VARIANCE,
    RUNNING_VARIANCE_BIASED,
    ADAM_FORGETS_WEIGHT_DECAY,
    LOSS_OF_NEXT_CLASS,
    NUDGING_HAS_WRONG_SIGN,
    HALF_OF_CROSS_ENTROPY_LOST,
    ENERGY_LACKS_CONSTANT,
    LAST_SPLIT_FORGOTTEN,
    CLASSES_BEGIN_IN_FIRST_ROW,
    PADDING_FETCHED_FROM_ODD_ADDRESS,
    OLD_STATE_NOT_AWAITED,
    RESPONSE_FORGETS_MASK,
    RESPONSE_LOOKS_FOR_MAXIMA,
    LAST_TERM_REPLACES_OTHERS,
    MEAN_GOES_DOWN_WHOLE,
    LOOP_NEVER_ENDS,
    LOOP_ENDS_HALF_WAY,
    JOIN_FORGETS_LAST_PART,
    JOIN_READS_NEXT_PART,
};

#ifdef EQPROP_EMULATION
inline bool broken(Defect defect) { return emulation::mutation() == defect; }
#elif defined(EQPROP_DEFECT) // a defect compiled in, for the interpreter of compiled kernels
__host__ __device__ constexpr bool broken(Defect defect) { return defect == EQPROP_DEFECT; }
#else
__host__ __device__ constexpr bool broken(Defect) { return false; }
#endif
