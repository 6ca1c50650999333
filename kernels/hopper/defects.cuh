// Deliberate defects of the kernels for Hopper, compiled in one at a time (EQPROP_HOPPER_DEFECT): tests/interpreter/hopper.rs expects each
// to be noticed.
#pragma once

namespace hopper {

enum Defect : int {
    RING_PARITY_WRONG = 1,
    RING_ANNOUNCES_TOO_FEW_BYTES,
    RING_SLOT_NOT_AWAITED,
    RING_SLOT_RELEASED_EARLY,
    RING_ARRIVAL_LOST,
    SLAB_DISTANCE_WRONG,
    ROWS_DISTANCE_WRONG,
    SUMS_NOT_AWAITED,
    NO_FENCE_BEFORE_PRODUCTS,
    SWIZZLE_FORGOTTEN,
    NO_FENCE_BEFORE_STORE,
    STORE_NOT_AWAITED,
    STORE_BEFORE_ALL_WROTE,
    MAPS_NOT_FENCED,
    TAP_SHIFTED_BY_ONE,
    GRADIENT_TAP_SHIFTED_BY_ONE,
    GRADIENT_FACTORS_OF_ONE_STATE,
    PART_BEGINS_A_STEP_EARLY,
    PART_STORED_FOR_THE_NEXT,
    JOIN_FORGETS_LAST_PART,
    JOIN_TAKES_A_PART_TWICE,
    JOIN_READS_NEXT_PART,
    CLUSTER_MULTICAST_TO_ONE,
    CLUSTER_EMPTY_COUNTS_ONE,
    CLUSTER_ARRIVAL_LOST,
    CLUSTER_ANNOUNCES_OWN_BYTES,
    CLUSTER_ENDS_EARLY,
};

#ifdef EQPROP_HOPPER_DEFECT
__host__ __device__ constexpr bool broken(Defect defect) { return defect == EQPROP_HOPPER_DEFECT; }
#else
__host__ __device__ constexpr bool broken(Defect) { return false; }
#endif

} // namespace hopper
