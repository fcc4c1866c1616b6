"""The identity acts, acts as asked, and never outlives its call."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_components import TEXT_DIM, standard_normal
from tiny_pipeline import (
    bare_pipeline,
    call_arguments,
    face,
    key_points_picture,
    largest_difference,
    run,
    tiny_pipeline,
    write_adapter,
)

from ip_adapter.attention_processor import IdentityAttnProcessor, times
from ip_adapter.errors import StateError, UserError
from ip_adapter.identity import Identity
from pipeline_stable_diffusion_xl_instantid import (
    StableDiffusionXLInstantIDImg2ImgPipeline,
    StableDiffusionXLInstantIDInpaintPipeline,
    StableDiffusionXLInstantIDPipeline,
    draw_kps,
)

SAME = 1e-4
NO_WEIGHT = {"controlnet_conditioning_scale": 0.0}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def pipe(adapter):
    return tiny_pipeline(adapter)


def test_another_face_gives_another_picture(pipe):
    assert largest_difference(run(pipe), run(pipe, image_embeds=face("someone else"))) > 0.1


def test_the_order_of_two_requests_does_not_matter(adapter):
    first, second = tiny_pipeline(adapter), tiny_pipeline(adapter)
    a, b = run(first, "a"), run(first, "b")
    assert torch.equal(run(second, "b"), b)
    assert torch.equal(run(second, "a"), a)


def calls_of(module, monkeypatch):
    """Filled with one entry for each time that `module` computes."""
    calls, forward = [], module.forward

    def counted(*args, **kwargs):
        calls.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(module, "forward", counted)
    return calls


def test_keys_and_values_of_text_and_face_are_computed_once_per_picture(pipe, monkeypatch):
    name, layer = next(iter(pipe._adapter.layers.items()))
    attn = pipe.unet.get_submodule(name.removesuffix(".processor"))
    projections = [calls_of(module, monkeypatch) for module in (attn.to_k, attn.to_v, layer.to_k_ip, layer.to_v_ip)]
    queries = calls_of(attn.to_q, monkeypatch)
    run(pipe, num_inference_steps=3)
    assert ([len(calls) for calls in projections], len(queries)) == ([1] * 4, 3)
    run(pipe, num_inference_steps=3)
    assert [len(calls) for calls in projections] == [2] * 4


def test_the_tokens_of_a_face_that_came_lately_are_not_computed_again(adapter, monkeypatch):
    pipe = tiny_pipeline(adapter)
    resampler = pipe.image_proj_model
    calls = calls_of(resampler.proj_out, monkeypatch)
    first = run(pipe)
    assert torch.equal(run(pipe), first)
    assert len(calls) == 1
    assert not torch.equal(run(pipe, image_embeds=face("someone else")), first)
    assert len(calls) == 2
    with torch.no_grad():
        resampler.latents.mul_(2)
    assert not torch.equal(run(pipe), first)
    assert len(calls) == 3


def test_while_gradients_are_recorded_nothing_is_kept(pipe):
    """With gradient checkpointing a layer runs twice, and what the first run kept would have no gradient."""
    layer = next(iter(pipe._adapter.layers.values()))
    identity = Identity(standard_normal("tokens", (1, 16, TEXT_DIM)), None, 0.8)
    layer.begin(identity)
    try:
        attn = pipe.unet.get_submodule(next(iter(pipe._adapter.layers)).removesuffix(".processor"))
        hidden = standard_normal("hidden", (1, 16, attn.to_q.in_features)).requires_grad_()
        layer(attn, hidden, standard_normal("text", (1, 77, TEXT_DIM))).sum().backward()
        assert layer.call.projections == {}
        assert hidden.grad.abs().sum() > 0
    finally:
        layer.end()


def test_blocks_with_identity_layers_are_compiled_whole(pipe, adapter):
    """`fullgraph` makes a break in the middle of a block an error; nothing else is asked of the compiler here."""
    compiled = tiny_pipeline(adapter)
    blocks = [block for block in compiled.unet.modules() if type(block).__name__ == "BasicTransformerBlock"]
    for block in blocks:
        block.compile(backend="eager", fullgraph=True)
    assert len(blocks) > 0
    for person in ("a", "b"):
        assert largest_difference(run(compiled, person), run(pipe, person)) < SAME
    torch.compiler.reset()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("scale", [0.1, 0.7, 0.8, 1.5])
def test_a_strength_in_a_tensor_multiplies_as_a_number_does(dtype, scale):
    values = standard_normal("values", (64, 64)).to(dtype)
    strength = torch.full((1,), scale)
    with torch.no_grad():
        assert torch.equal(times(values, strength), scale * values)
    assert torch.equal(times(values, strength), scale * values)  # as while gradients are recorded


@pytest.mark.parametrize(
    ("window", "computed"),
    [({}, 4), ({"control_guidance_end": 0.5}, 2), ({"control_guidance_start": 0.5}, 2), (NO_WEIGHT, 0)],
    ids=["always", "first half", "second half", "never"],
)
def test_identitynet_is_not_computed_in_steps_where_it_weighs_nothing(adapter, monkeypatch, window, computed):
    pipe = tiny_pipeline(adapter)
    calls = calls_of(pipe.controlnet.conv_in, monkeypatch)
    drawn = run(pipe, num_inference_steps=4, **window)
    assert len(calls) == computed
    monkeypatch.setattr(
        "pipeline_stable_diffusion_xl_instantid.silent_without_weight", lambda plain, arguments: plain(**arguments)
    )
    assert torch.equal(run(pipe, num_inference_steps=4, **window), drawn)
    assert len(calls) == computed + 4


@pytest.mark.parametrize(("end", "expected"), [(1.0, [2, 2, 2, 2]), (0.75, [2, 2, 2, 1]), (0.3, [2, 2, 1, 1])])
def test_after_guidance_has_ended_its_unconditional_half_is_not_computed(pipe, request, end, expected):
    batches = {"unet": [], "controlnet": []}
    for name, seen in batches.items():
        net = getattr(pipe, name)
        handle = net.conv_in.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(len(args[0])))
        request.addfinalizer(handle.remove)
    run(pipe, num_inference_steps=4, guidance_end=end)
    assert batches == {"unet": expected, "controlnet": expected}


def test_steps_after_guidance_are_those_of_a_call_without_it(pipe):
    after_two = {}

    def remember(pipe, step, timestep, inputs):
        after_two.setdefault(step, inputs["latents"])
        return inputs

    def go_on(pipe, step, timestep, inputs):
        return {"latents": after_two[1]} if step == 1 else {}

    drawn = run(pipe, num_inference_steps=4, guidance_end=0.5, callback_on_step_end=remember)
    expected = run(pipe, num_inference_steps=4, guidance_scale=1.0, callback_on_step_end=go_on)
    assert largest_difference(drawn, expected) < SAME
    assert largest_difference(drawn, run(pipe, num_inference_steps=4)) > 0.1


def test_guidance_that_never_begins_is_none(pipe):
    unguided = run(pipe, guidance_scale=1.0)
    assert torch.equal(run(pipe, guidance_end=0.0), unguided)
    assert torch.equal(run(pipe, guidance_scale=1.0, guidance_end=0.5), unguided)


def test_a_callback_of_the_callers_own_goes_on_when_guidance_ends(pipe):
    seen = []

    def watch(pipe, step, timestep, inputs):
        seen.append((step, sorted(inputs)))
        return {"latents": inputs["latents"] * 0.9}

    drawn = run(pipe, guidance_end=0.5, callback_on_step_end=watch, callback_on_step_end_tensor_inputs=["latents"])
    assert seen == [(step, ["latents"]) for step in range(3)]
    assert largest_difference(drawn, run(pipe, guidance_end=0.5)) > 0.1


def test_guidance_ends_early_in_image_to_image_and_is_refused_in_inpaint(adapter):
    picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    call = {"image": picture, "control_image": key_points_picture(), "strength": 0.99, "latents": None}
    pipe = tiny_pipeline(adapter, cls=StableDiffusionXLInstantIDImg2ImgPipeline)
    ended, whole = (
        run(pipe, guidance_end=end, generator=torch.Generator().manual_seed(0), **call) for end in (0.5, 1.0)
    )
    assert ended.isfinite().all()
    assert largest_difference(ended, whole) > 0.01
    pipe = tiny_pipeline(adapter, cls=StableDiffusionXLInstantIDInpaintPipeline)
    with pytest.raises(UserError, match="Leave guidance_end out"):
        run(pipe, guidance_end=0.5, mask_image=picture[:, :1], **call)


def test_a_region_and_no_weight_go_together(pipe):
    mask = np.full((128, 128, 3), 255, np.uint8)
    assert torch.equal(run(pipe, control_mask=mask, **NO_WEIGHT), run(pipe, **NO_WEIGHT))


def test_two_pipelines_do_not_share_a_face_or_a_mask(adapter):
    one, other = tiny_pipeline(adapter), tiny_pipeline(adapter)
    alone = run(one)
    run(other, image_embeds=face("someone else"), control_mask=np.zeros((128, 128, 3), np.uint8))
    assert torch.equal(run(one), alone)


@pytest.mark.parametrize(
    "convert",
    [np.asarray, torch.as_tensor, list, lambda e: e[None], lambda e: e[None, None], lambda e: [torch.as_tensor(e)]],
    ids=["array", "tensor", "list of numbers", "(1, 512)", "(1, 1, 512)", "list of tensors"],
)
def test_an_embedding_may_come_in_any_form(pipe, convert):
    assert torch.equal(run(pipe, image_embeds=convert(face("a"))), run(pipe))


def test_a_batch_of_prompts_and_faces_equals_each_alone(pipe):
    faces = np.stack([face("a"), face("b")])
    shared = {"image": key_points_picture(), "controlnet_conditioning_scale": 0.8, "ip_adapter_scale": 0.8}
    both = {"latents": standard_normal("two", (2, 4, 16, 16)), "image_embeds": faces}
    together = pipe(**call_arguments("a", prompts=2) | shared | both).images
    for i in range(2):
        arguments = {
            key: value[i : i + 1] if torch.is_tensor(value) else value
            for key, value in call_arguments("a", prompts=2).items()
        }
        arguments |= {"image_embeds": faces[i], "latents": standard_normal("two", (2, 4, 16, 16))[i : i + 1]}
        alone = pipe(**arguments | shared).images
        assert largest_difference(together[i], alone[0]) < SAME


def test_several_pictures_per_prompt_equal_each_alone(pipe):
    latents = standard_normal("three", (3, 4, 16, 16))
    arguments = call_arguments("a") | {"image": key_points_picture(), "ip_adapter_scale": 0.8}
    together = pipe(**arguments, num_images_per_prompt=3, latents=latents).images
    for i in range(3):
        alone = pipe(**arguments, latents=latents[i : i + 1]).images
        assert largest_difference(together[i], alone[0]) < SAME


def test_several_embeddings_may_be_read_as_one_sequence(pipe):
    sequence = np.stack([face("a"), face("b")])[None]
    assert largest_difference(run(pipe, image_embeds=sequence), run(pipe)) > 0.01


def test_guess_mode_keeps_the_face(pipe):
    a, b = (run(pipe, guess_mode=True, image_embeds=face(who)) for who in ("a", "b"))
    assert largest_difference(a, b) > 0.1


def test_a_guidance_window_is_passed_on_to_identity_net(pipe):
    assert largest_difference(run(pipe, control_guidance_end=0.4), run(pipe)) > 0.01


def test_an_empty_mask_removes_the_identity_entirely(pipe):
    empty = np.zeros((128, 128, 3), np.uint8)
    without = run(pipe, ip_adapter_scale=0.0, controlnet_conditioning_scale=0.0)
    assert largest_difference(run(pipe, control_mask=empty), without) < SAME


def test_a_white_mask_changes_nothing(pipe):
    assert largest_difference(run(pipe, control_mask=Image.new("L", (128, 128), 255)), run(pipe)) < SAME


@pytest.mark.parametrize("make", [Image.fromarray, np.asarray, lambda m: torch.as_tensor(m)[..., 0] / 255.0])
def test_a_mask_may_be_a_picture_an_array_or_a_tensor(pipe, make):
    mask = np.zeros((128, 128, 3), np.uint8)
    mask[:60, 20:] = 255
    assert torch.equal(run(pipe, control_mask=make(mask)), run(pipe, control_mask=mask))


@pytest.mark.parametrize("size", [(136, 120), (104, 152), (88, 200)])  # width × height, multiples of 8 only
def test_sizes_that_32_does_not_divide_work_with_a_mask(pipe, size):
    mask = np.zeros((size[1], size[0], 3), np.uint8)
    mask[10:70, 3:50] = 255
    arguments = call_arguments("a") | {"image": key_points_picture(size=size), "generator": torch.manual_seed(3)}
    latents = pipe(**arguments, control_mask=Image.fromarray(mask)).images
    assert latents.shape == (1, 4, size[1] // 8, size[0] // 8)
    assert torch.isfinite(latents).all()


def test_the_scale_set_on_the_pipeline_counts_when_the_call_says_nothing(pipe):
    pipe.set_ip_adapter_scale(0.3)
    assert torch.equal(run(pipe, ip_adapter_scale=None), run(pipe, ip_adapter_scale=0.3))


def test_after_an_exception_the_identity_is_gone_and_the_pipeline_works(pipe):
    before = run(pipe)

    def fail(*_):
        raise RuntimeError("stopped in a step")

    with pytest.raises(RuntimeError, match="stopped in a step"):
        run(pipe, callback_on_step_end=fail)
    processors = [p for p in pipe.unet.attn_processors.values() if isinstance(p, IdentityAttnProcessor)]
    assert len(processors) > 0
    assert all(p.call is None for p in processors)
    assert not pipe.controlnet._forward_pre_hooks
    assert not pipe.controlnet._forward_hooks
    assert torch.equal(run(pipe), before)


def test_a_second_call_while_one_runs_is_refused(pipe):
    def again(*_):
        run(pipe)

    with pytest.raises(StateError, match="already generating"):
        run(pipe, callback_on_step_end=again)


def test_image_to_image_and_inpaint_follow_the_face(pipe):
    start = Image.fromarray((standard_normal("start", (128, 128, 3)).numpy() * 40 + 128).clip(0, 255).astype(np.uint8))
    mask = Image.new("L", (128, 128), 255)
    shared = {
        "image": start,
        "control_image": key_points_picture(),
        "strength": 0.9,
        "controlnet_conditioning_scale": 0.8,
    }
    for cls, extra in (
        (StableDiffusionXLInstantIDImg2ImgPipeline, {}),
        (StableDiffusionXLInstantIDInpaintPipeline, {"mask_image": mask}),
    ):
        mode = cls.from_pipe(pipe)
        outputs = [
            mode(
                **call_arguments("a") | shared | extra | {"image_embeds": face(who)},
                num_images_per_prompt=2,
                generator=torch.manual_seed(5),
                control_mask=np.full((128, 128, 3), 255, np.uint8),
            ).images
            for who in ("a", "b")
        ]
        assert outputs[0].shape == (2, 4, 16, 16)
        assert largest_difference(*outputs) > 0.1


def test_saving_and_loading_gives_the_same_picture_and_a_plain_unet(adapter, tmp_path):
    from diffusers import UNet2DConditionModel

    pipe = tiny_pipeline(adapter)
    before = run(pipe)
    pipe.save_pretrained(tmp_path)
    assert torch.equal(run(pipe), before)
    _, report = UNet2DConditionModel.from_pretrained(tmp_path / "unet", output_loading_info=True)
    assert not report["unexpected_keys"]
    again = StableDiffusionXLInstantIDPipeline.from_pretrained(
        tmp_path, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None
    )
    again.set_progress_bar_config(disable=True)
    assert torch.equal(run(again), before)


def test_a_second_adapter_replaces_the_first(adapter, tmp_path):
    other = write_adapter(tmp_path, seed="other.")
    pipe = tiny_pipeline(adapter)
    first = run(pipe)
    pipe.load_ip_adapter_instantid(other)
    second = run(pipe)
    assert largest_difference(first, second) > 0.1
    assert torch.equal(run(tiny_pipeline(other)), second)


def test_an_unusable_adapter_leaves_the_loaded_one_at_work(adapter, tmp_path):
    pipe = tiny_pipeline(adapter)
    before = run(pipe)
    broken = tmp_path / "ip-adapter.bin"
    broken.write_bytes(adapter.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged or cut short"):
        pipe.load_ip_adapter_instantid(broken)
    assert torch.equal(run(pipe), before)


def test_the_resampler_stays_in_float32_when_the_pipeline_is_cast(adapter):
    pipe = tiny_pipeline(adapter).to(torch.float64)
    assert pipe.image_proj_model.latents.dtype == torch.float32
    assert pipe.unet.dtype == torch.float64


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_embeds": None}, "image_embeds is missing"),
        ({"image_embeds": np.ones(511)}, r"shape \(511,\); needed is \(512,\)"),
        ({"image_embeds": np.ones((3, 512))}, "one face per prompt"),
        ({"image_embeds": np.full(512, np.nan)}, "not finite"),
        ({"control_mask": np.zeros(7)}, "control_mask has shape"),
    ],
)
def test_an_unusable_argument_gets_one_clear_sentence(pipe, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        run(pipe, **changes)


def test_a_normalised_embedding_is_warned_about(pipe, caplog):
    run(pipe, image_embeds=face("a") / np.linalg.norm(face("a")))
    assert "not face.normed_embedding" in caplog.text


def test_without_an_adapter_the_call_that_is_missing_is_named():
    with pytest.raises(StateError, match="load_ip_adapter_instantid"):
        run(bare_pipeline())


def test_key_points_of_another_shape_are_refused():
    with pytest.raises(UserError, match=r"received shape \(3, 2\)"):
        draw_kps(Image.new("RGB", (64, 64)), np.zeros((3, 2)))


def test_a_list_of_prompts_in_words_gives_the_pictures_of_each_prompt_alone(models):
    pipe, prompts = models.pipeline, ["a person in the snow", "a portrait in neon light"]
    noise = standard_normal("words", (4, 4, 16, 16))
    shared = {"image": key_points_picture(), "image_embeds": face("a"), "num_inference_steps": 2, "output_type": "np"}
    together = pipe(prompts, **shared, num_images_per_prompt=2, latents=noise).images
    for i, prompt in enumerate(prompts):
        alone = pipe(prompt, **shared, num_images_per_prompt=2, latents=noise[2 * i : 2 * i + 2]).images
        assert largest_difference(together[2 * i : 2 * i + 2], alone) < SAME
    assert largest_difference(together[:2], together[2:]) > 0.01
