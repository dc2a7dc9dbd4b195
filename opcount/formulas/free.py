"""Operators that are declared to compute nothing: they move, make, name or look at data.

An operator is free when

* it is a view: its schema says that an output aliases an input and writes nothing, or it bears the tag
  ``inplace_view`` or ``view_copy``;
* or its name stands below. The lists are by packet, so that ``out=`` and in-place overloads are free too.

Indexing that adds up (``index_add``, ``scatter_reduce``, ``col2im``, ...) is no mere movement; see `reduction`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from opcount._torch.dispatch import changes_shape, schema_of

if TYPE_CHECKING:
    from opcount._torch.dispatch import OpOverload

QUESTIONS = """
_assert_async _assert_scalar _assert_tensor_metadata _coalesced _debug_has_internal_overlap _dimI _dimV
_functional_assert_async _functional_assert_scalar _functional_sym_constrain_range
_functional_sym_constrain_range_for_size _fused_sdp_choice _has_same_storage_numel _linalg_check_errors
_local_scalar_dense _make_dep_token _nested_compute_contiguous_strides_offsets _nested_get_jagged_dummy
_nested_get_lengths _nested_get_max_seqlen _nested_get_min_seqlen _nested_get_offsets _nested_get_ragged_idx
_nested_tensor_size _nested_tensor_storage_offsets _nested_tensor_strides _nnz _print _use_cudnn_ctc_loss
_use_miopen_ctc_loss _validate_compressed_sparse_indices _version dense_dim is_coalesced is_complex is_contiguous
is_floating_point is_non_overlapping_and_dense is_pinned is_same_size is_set_to is_strides_like_format numel
q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point qscheme record_stream
requires_grad retain_grad size sparse_dim storage_offset stride sym_constrain_range sym_constrain_range_for_size
sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride item
"""

COPIES = """
_chunk_cat _conj_copy _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo _convert_weight_to_int4pack
_convert_weight_to_int4pack_for_cpu _copy_from _copy_from_and_resize _cslt_compress _cudnn_rnn_flatten_weight
_dyn_quant_pack_4bit_weight _foreach_clone _foreach_copy _fw_primal_copy _indices_copy _jagged_to_padded_dense_forward
_lazy_clone _make_dual_copy _mkldnn_reshape _mkldnn_transpose _neg_view_copy _nested_from_padded
_nested_from_padded_and_nested_example _nested_from_padded_tensor _nested_get_values_copy _nested_select_backward
_nested_tensor_from_mask _nested_tensor_from_mask_left_aligned _nested_tensor_from_tensor_list
_nested_view_from_buffer_copy _nested_view_from_jagged_copy _pack_padded_sequence _padded_dense_to_jagged_forward
_pin_memory _reshape_alias_copy _reshape_copy _resize_output _sparse_broadcast_to_copy _sparse_mask_projection
_sparse_semi_structured_tile _sparse_sum_backward _stack _test_autograd_multiple_dispatch_view_copy _to_copy _to_cpu
_to_dense _to_sparse _to_sparse_bsc _to_sparse_bsr _to_sparse_csc _to_sparse_csr _to_sparse_semi_structured
_unsafe_view _values_copy alias_copy as_strided as_strided_copy as_strided_scatter block_diag cat ccol_indices_copy
channel_shuffle clone col_indices_copy collapse complex constant_pad_nd convert_element_type copy
copy_sparse_to_sparse copy_strided copy_to crow_indices_copy detach_copy device_put diag_embed diagonal_backward
diagonal_copy diagonal_scatter expand_copy flip im2col indices_copy int_repr lift lift_fresh_copy lu_unpack
mkldnn_reorder_conv2d_weight mkldnn_reorder_conv3d_weight narrow_copy native_channel_shuffle permute_copy
pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave
replication_pad1d replication_pad2d replication_pad3d reshape resize resize_as resize_as_sparse resize_storage_bytes
rev roll rot90 row_indices_copy select_backward select_copy select_scatter set set_data shallow_copy_data
slice_backward slice_copy slice_scatter sparse_mask sparse_resize sparse_resize_and_clear split_copy
split_with_sizes_copy squeeze_copy stack t_copy to_mkldnn to_padded_tensor transpose_copy tril triu unbind_copy
unfold_copy unsafe_split unsafe_split_with_sizes unsqueeze_copy values_copy view_as_complex_copy view_as_real_copy
view_copy real imag view_of view_of_dtype
"""

CREATION = """
_cudnn_init_dropout_state _efficientzerotensor _empty_affine_quantized _empty_per_channel_affine_quantized
_foreach_zero _make_per_channel_quantized_tensor _make_per_tensor_quantized_tensor _new_zeros_with_same_feature_meta
_sparse_compressed_tensor_unsafe _sparse_compressed_tensor_with_dims _sparse_coo_tensor_unsafe
_sparse_coo_tensor_with_dims _sparse_coo_tensor_with_dims_and_tensors _spdiags arange
bartlett_window blackman_window empty empty_like empty_permuted empty_quantized empty_strided eye fft_fftfreq
fft_rfftfreq fill from_file full full_like hamming_window hann_window kaiser_window linspace logspace new_empty
new_empty_strided new_full new_ones new_zeros ones ones_like range scalar_tensor sparse_compressed_tensor
sparse_coo_tensor tril_indices triu_indices zero zeros zeros_like iota maximum_value minimum_value _make_token
_sink_tokens
"""

RANDOM = """
_fill_mem_eff_dropout_mask _philox_key_fold_in _philox_key_split _philox_normal _philox_randint _philox_uniform
_sample_dirichlet _standard_gamma bernoulli binomial cauchy exponential geometric log_normal multinomial normal
normal_functional poisson rand rand_like randint randint_like randn randn_like random randperm uniform philox_rand
inductor_reserve_rng_state
"""

FOREIGN = """
quantized::cat quantized::cat_out quantized::dropout quantized::make_quantized_cell_params
quantized::make_quantized_cell_params_dynamic quantized::make_quantized_cell_params_fp16
inductor::_alloc_from_pool inductor::_reinterpret_tensor mkl::_mkl_reorder_linear_weight
mkldnn::_get_mkldnn_serialized_md mkldnn::_is_mkldnn_acl_supported mkldnn::_is_mkldnn_bf16_supported
mkldnn::_is_mkldnn_fp16_supported mkldnn::_nbytes mkldnn::_reorder_convolution_transpose_weight
mkldnn::_reorder_convolution_weight mkldnn::_reorder_linear_weight mkldnn::_reorder_mkldnn_rnn_layer_weight
mkldnn::data_ptr static_runtime::VarTupleUnpack static_runtime::create_owned_ref static_runtime::dict_unpack
static_runtime::expand_dims_copy static_runtime::flatten_copy static_runtime::fused_equally_split
static_runtime::reshape_copy static_runtime::to_copy static_runtime::to_maybe_copy_out
"""
"""Names that hold in their own namespace alone."""

INDEXING = """
_index_put_impl _unsafe_index _unsafe_index_put _unsafe_masked_index embedding gather index index_copy index_fill
index_put index_select masked_scatter masked_scatter_backward masked_select max_unpool2d max_unpool3d
nonzero nonzero_static put scatter take
"""

FREE_NAMES = frozenset(f"{QUESTIONS} {COPIES} {CREATION} {RANDOM} {INDEXING}".split())
"""Free packets of ``aten``, ``prims`` and friends, without the underscore of in-place variants."""

_NAMESPACES = """
prim c10d c10d_functional _c10d_functional _c10d_functional_autograd symm_mem fsdp _dtensor profiler debug_mode_ops
debugprims export streams
"""
FREE_NAMESPACES = frozenset(_NAMESPACES.split())
"""Metadata questions, collectives, bookkeeping. What a collective adds up on the way is communication."""

_KERNELS = frozenset({"mm", "matmul", "linear", "gemm"})
"""Words in the names of those operators that compute while they communicate: nothing is declared about them."""


def is_free(func: OpOverload) -> bool:
    """Return whether an operator is declared to compute nothing."""
    namespace, _, packet = str(schema_of(func).name).partition("::")
    if namespace in FREE_NAMESPACES:
        return not _KERNELS.intersection(packet.split("_"))
    if is_view(func):
        return True
    if namespace in _PACKED and _PACKING.intersection(packet.split("_")):
        return True
    return schema_of(func).name in _FOREIGN or (namespace in _FAMILIAR and packet_base(packet) in FREE_NAMES)


_FOREIGN = frozenset(FOREIGN.split())
_FAMILIAR = frozenset({"aten", "prims", "inductor", "inductor_prims", "rngprims", "static_runtime"})
"""Namespaces whose names mean what ATen's do."""

_PACKED = frozenset({"quantized", "_quantized", "onednn", "sparse", "mkldnn_prepacked"})
_PACKING = frozenset({"prepack", "unpack", "pack", "stride", "padding", "dilation", "groups"})
"""Words in the names of those operators that bring weights into a layout of their own, or back, or ask about it."""


def is_view(func: OpOverload) -> bool:
    """Return whether an output is a view of an input by its schema, or the copy of a view."""
    if changes_shape(func) or torch.Tag.view_copy in func.tags:
        return True
    returns = schema_of(func).returns
    return any(value.alias_info is not None and not value.alias_info.is_write for value in returns)


def packet_base(packet: str) -> str:
    """Return a packet's name without the underscore of in-place variants.

    Example:
        >>> packet_base("add_"), packet_base("__ilshift__"), packet_base("mm")
        ('add', '__ilshift__', 'mm')
    """
    return packet[:-1] if packet.endswith("_") and not packet.endswith("__") else packet
