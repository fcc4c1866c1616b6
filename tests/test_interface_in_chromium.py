"""The page in a real browser. Screenshots are kept in the folder that `INSTANTID_SCREENSHOTS` names."""

import json
import os
import shutil
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import insightface
import pytest
from fake_generator import FakeGenerator
from gradio_client import Client, handle_file
from PIL import Image

from instantid.generation import generate_image
from instantid.messages import say
from instantid.styles import STYLES
from instantid.ui import create_demo, launch
from instantid.ui_results import SETTINGS_KEY

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
Keys = webdriver.Keys
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="Chromium and its driver are not installed"),
]

FLAGS = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-dev-shm-usage",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "no-first-run",
    "accept-lang=es",
    "disable-features=BackForwardCache",  # pages left behind would keep their connections, of which there are six
)
# What the pages of gradio 4 and 5 ask for by themselves and do without.
GRADIO_S_OWN = ("iframeResizer", "manifest.json")
SIZES = {"desktop": (1280, 900), "phone": (400, 850)}
SECONDS = 40  # the longest wait for anything the page should do


class Page:
    """The page as a person meets it: by its words."""

    def __init__(self, driver, generator):
        self.driver = driver
        self.generator = generator

    def until(self, condition):
        return WebDriverWait(self.driver, SECONDS, poll_frequency=0.1).until(lambda driver: condition())

    def find(self, css):
        return self.until(lambda: next(iter(self.driver.find_elements("css selector", css)), None))

    def press(self, words):
        path = f"//button[normalize-space()='{words}' or span='{words}'] | //label[normalize-space()='{words}']"
        button = self.until(lambda: next((b for b in self.driver.find_elements("xpath", path) if b.is_displayed()), 0))
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def reads(self, words):
        return self.until(lambda: words in self.driver.find_element("tag name", "body").text)

    def upload(self, css, path):
        self.find(f"{css} input[type=file]").send_keys(str(path))
        self.find(f"{css} img")

    def write(self, css, words):
        field = self.find(f"{css} textarea, {css} input")
        field.clear()
        field.send_keys(words)

    def value(self, css):
        return self.find(f"{css} textarea, {css} input").get_property("value")

    def picture_is_shown(self):
        """Whether the gallery shows a picture that has really arrived."""
        script = "return [...document.querySelectorAll('#gallery img')].some(i => i.complete && i.naturalWidth > 0)"
        return self.until(lambda: self.driver.execute_script(script))

    def scrolls_sideways(self):
        return self.driver.execute_script("return document.documentElement.scrollWidth > window.innerWidth")

    def keep(self, name):
        """A screenshot of the whole page at both sizes, if a folder is named for them."""
        folder = os.environ.get("INSTANTID_SCREENSHOTS")
        if not folder:
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        for kind, (width, height) in SIZES.items():
            self.resize(width, height)
            full = self.driver.execute_script("return document.documentElement.scrollHeight")
            self.resize(width, max(height, full))
            self.driver.save_screenshot(str(Path(folder) / f"{name}-{kind}.png"))
        self.resize(*SIZES["desktop"])

    def resize(self, width, height):
        """Sets the viewport itself: a headless window does not get narrower than 500 pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=CHROMEDRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def server():
    generator = FakeGenerator()
    about = {
        "es": "CPU · modelo de prueba: los pesos son aleatorios.",
        "en": "CPU · test model: the weights are random.",
    }
    demo = create_demo(generator, language="es", about=about, defaults={"steps": 4})
    launch(demo, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield demo, generator
    demo.close()


@contextmanager
def visit(driver, demo, generator, language="es"):
    """The page freshly opened; the browser must have nothing severe to complain of in the end."""
    driver.get("about:blank")  # what the page before complains of when it is left is no matter of this one
    driver.get_log("browser")
    driver.get(demo.local_url)
    page = Page(driver, generator)
    page.resize(*SIZES["desktop"])
    page.reads(say("ui.generate.value", language))
    yield page
    severe = [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    assert [message for message in severe if not any(name in message for name in GRADIO_S_OWN)] == []


@pytest.fixture
def page(driver, server):
    demo, generator = server
    generator.error, generator.held = None, False
    generator.requests.clear()
    generator.release.clear()
    while generator.started.acquire(blocking=False):
        pass
    with visit(driver, demo, generator) as page:
        yield page


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "face.png"
    Image.new("RGB", (120, 150), (226, 180, 150)).save(path)
    return path


def test_a_photo_and_a_prompt_become_a_picture_on_the_page(page, photo):
    page.keep("es-empty")
    page.upload("#face", photo)
    page.write("#prompt", "una persona en la nieve")
    page.press("Generar")
    assert page.picture_is_shown()
    assert page.reads("2.0 s en total")
    assert page.generator.requests[0].prompt == "una persona en la nieve"
    page.keep("es-result")


def test_a_missing_photo_is_said_in_spanish_and_the_prompt_stays(page):
    page.write("#prompt", "una persona en la nieve")
    page.press("Generar")
    assert page.reads(say("request.no_face_photo", "es"))
    assert page.value("#prompt") == "una persona en la nieve"
    page.keep("es-error")


def test_switching_to_english_says_everything_again_and_keeps_what_was_entered(page, photo):
    page.upload("#face", photo)
    page.write("#prompt", "una persona en la nieve")
    page.press("English")
    for words in ("Generate", "Face photo", "Fine tuning", "the weights are random"):
        assert page.reads(words)
    assert page.value("#prompt") == "una persona en la nieve"
    assert page.value("#style") == "No style"
    assert page.find("#face img").is_displayed()
    page.until(lambda: page.find("html").get_attribute("lang") == "en")
    page.press("Generate")
    assert page.picture_is_shown()
    for fold in ("Face and likeness", "Size and count", "Fine tuning", "All settings of these pictures"):
        page.press(fold)
    page.reads("guidance_scale")
    page.keep("en-all-open")


def test_cancel_ends_a_running_picture_without_a_red_error(page, photo):
    page.generator.held = True
    page.upload("#face", photo)
    page.write("#prompt", "una persona en la nieve")
    page.press("Generar")
    assert page.reads("Dibujando: paso")
    page.keep("es-running")
    page.press("Cancelar")
    assert page.reads(say("ui.cancelled", "es"))
    assert not page.driver.find_elements("css selector", ".toast-body.error")


def test_a_run_that_waits_behind_another_person_can_be_cancelled(page, photo):
    page.generator.held = True
    other = Client(page.driver.current_url, verbose=False, download_files=False)
    job = other.submit(handle_file(str(photo)), "otra persona", api_name="/generate")
    assert page.generator.started.acquire(timeout=SECONDS)
    page.upload("#face", photo)
    page.write("#prompt", "una persona en la nieve")
    page.press("Generar")
    page.reads("queue: ")  # gradio says this in English only
    page.press("Cancelar")
    assert page.reads(say("ui.cancelling", "es"))
    page.generator.release.set()
    assert page.reads(say("ui.cancelled", "es"))
    job.result(timeout=SECONDS)
    assert [request.prompt for request in page.generator.requests] == ["otra persona"]


def test_a_size_of_ones_own_is_kept_through_a_switch_of_language(page, photo):
    page.upload("#face", photo)
    page.write("#prompt", "una persona en la nieve")
    page.press("Tamaño y cantidad")
    page.find("#size input").send_keys(Keys.CONTROL, "a")
    page.find("#size input").send_keys("640x960", Keys.ENTER)
    page.press("English")
    page.press("Generate")
    assert page.picture_is_shown()
    assert (page.generator.requests[0].width, page.generator.requests[0].height) == (640, 960)


def test_the_seed_of_a_picture_can_be_used_again(page, photo):
    page.upload("#face", photo)
    page.write("#prompt", "una persona en la nieve")
    page.press("Generar")
    assert page.picture_is_shown()
    page.press("Repetir esta semilla")
    seed = str(page.generator.requests[0].seed)
    assert page.until(lambda: page.value("#seed") == seed)
    page.press("Semilla al azar")
    assert page.until(lambda: page.value("#seed") == "")


def generate_several(page, count, button="Generar"):
    """Makes `count` pictures and chooses the last one; their seeds."""
    page.find("#count input[type=number]").send_keys(Keys.CONTROL, "a")
    page.find("#count input[type=number]").send_keys(str(count), Keys.TAB)
    page.press(button)
    page.until(lambda: page.generator.requests and page.generator.requests[-1].count == count)
    seeds = [str(seed) for seed in page.generator.requests[-1].seeds()]
    assert page.until(lambda: page.value("#seed_used") == seeds[0])
    thumbnails = "#gallery .thumbnail-small"
    page.until(lambda: len(page.driver.find_elements("css selector", thumbnails)) == count)
    page.driver.find_elements("css selector", thumbnails)[-1].click()
    return seeds


def test_the_chosen_picture_of_several_names_its_seed(page, photo):
    page.upload("#face", photo)
    page.write("#prompt", "una persona en la nieve")
    page.press("Tamaño y cantidad")
    seeds = generate_several(page, 3)
    assert page.until(lambda: page.value("#seed_used") == seeds[2])
    seeds = generate_several(page, 4)
    assert page.until(lambda: page.value("#seed_used") == seeds[3])


def test_an_example_fills_the_prompt(page):
    page.press(say("ui.example_2.value", "es"))
    assert page.until(lambda: page.value("#prompt") == say("ui.example_2.value", "es"))


def test_a_portrait_to_try_becomes_the_face_photo_wherever_its_file_lies(driver, tmp_path, monkeypatch):
    """gradio gives out files of the working folder and of the system's temporary one; this is in neither."""
    monkeypatch.chdir(tmp_path)
    generator, portrait = FakeGenerator(), Path(__file__).parents[1] / "docs" / "images" / "interface.png"
    demo = create_demo(generator, language="es", portraits=[portrait], prompts=["a photo of a person"])
    launch(demo, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        with visit(driver, demo, generator) as page:
            page.reads(say("ui.portraits.label", "es"))
            page.press("English")
            page.reads(say("ui.portraits.label", "en"))
            page.find("#portraits button img").click()
            assert page.until(lambda: page.find("#face img").is_displayed())
            page.press("a photo of a person")
            assert page.until(lambda: page.value("#prompt") == "a photo of a person")
            page.press("Generate")
            assert page.picture_is_shown()
        used, expected = (Image.open(file).convert("RGB") for file in (generator.requests[0].face, portrait))
        assert used.tobytes() == expected.tobytes()
    finally:
        demo.close()


def test_a_phone_shows_the_page_without_scrolling_sideways(page):
    page.resize(*SIZES["phone"])
    assert not page.scrolls_sideways()


def test_the_page_asks_nothing_of_other_machines(page, server):
    script = "return performance.getEntriesByType('resource').map(r => r.name)"
    loaded = page.driver.execute_script(script)
    assert loaded
    ours = [url for url in loaded if not any(name in url for name in GRADIO_S_OWN)]
    assert [url for url in ours if not url.startswith((server[0].local_url, "data:", "blob:"))] == []


# What was set is kept


@contextmanager
def served(generator, settings_file):
    demo = create_demo(generator, language="es", settings_file=settings_file)
    launch(demo, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        yield demo
    finally:
        demo.close()


def shows_what_was_set(page):
    """Whether the page shows it again, in English, with nothing left in Spanish."""
    page.reads("Generate")
    assert page.until(lambda: page.value("#prompt") == "a person in the snow")
    assert page.until(lambda: page.value("#style") == STYLES["ink"].english)
    page.press("Size and count")
    assert page.until(lambda: page.value("#size") == "640x960")
    assert page.until(lambda: page.find("#count input[type=number]").get_property("value") == "3")
    assert page.until(lambda: page.find("html").get_attribute("lang") == "en")
    assert "Generar" not in page.find("body").text


def test_what_was_set_is_there_again_after_a_reload_and_in_the_next_session(driver, photo, tmp_path):
    generator, kept = FakeGenerator(), tmp_path / "settings.json"
    with served(generator, kept) as demo, visit(driver, demo, generator) as page:
        page.press("English")
        page.reads("Generate")  # what is set before the page has changed may be lost with its Spanish words
        page.upload("#face", photo)
        page.write("#prompt", "a person in the snow")
        page.find("#style input").send_keys(Keys.CONTROL, "a")
        page.find("#style input").send_keys(STYLES["ink"].english, Keys.ENTER)
        page.press("Size and count")
        page.find("#size input").send_keys(Keys.CONTROL, "a")
        page.find("#size input").send_keys("640x960", Keys.ENTER)
        generate_several(page, 3, "Generate")
        driver.refresh()
        shows_what_was_set(page)
        page.keep("en-reloaded")
    with served(generator, kept) as demo, visit(driver, demo, generator, "en") as page:
        shows_what_was_set(page)
        page.keep("en-next-session")


def test_settings_that_cannot_be_read_are_said_on_the_page_once(driver, tmp_path):
    kept = tmp_path / "settings.json"
    kept.write_text("not JSON")
    with served(FakeGenerator(), kept) as demo, visit(driver, demo, None) as page:
        assert page.reads(say("keeping.settings_unreadable", "es", file=kept))
        page.keep("es-unreadable-settings")
        driver.refresh()
        page.reads("Generar")
        page.press(say("ui.example_2.value", "es"))
        assert page.until(lambda: page.value("#prompt") == say("ui.example_2.value", "es"))
        assert str(kept) not in page.find("body").text


# The true application: the same page, with the models of the random bundle behind it


@pytest.fixture(scope="module")
def application(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    generator = partial(generate_image, models)
    demo = create_demo(generator, about=models.about(), defaults={"steps": 2, "seed": 0}, output_folder=folder)
    launch(demo, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield demo, folder
    demo.close()


@pytest.fixture
def application_page(driver, application):
    with visit(driver, application[0], None) as page:
        yield page


def test_a_real_photo_becomes_a_picture_of_the_real_models(application_page, application):
    page = application_page
    assert page.reads("Pesos aleatorios")
    page.upload("#face", Path(insightface.__file__).parent / "data" / "images" / "t1.jpg")
    page.write("#prompt", "una persona en la nieve")
    page.press("Generar")
    assert page.picture_is_shown()
    (kept,) = application[1].glob("*-seed0.png")
    with Image.open(kept) as picture:
        assert page.reads(f"{picture.width} × {picture.height}")
        assert json.loads(picture.text[SETTINGS_KEY])["prompt"] == "una persona en la nieve"
    page.keep("es-application")


def complains(page, sentence):
    """Whether the page says `sentence` in a message that lies inside the window."""
    page.reads(sentence)
    inside = """const {left, top, right, bottom} = arguments[0].getBoundingClientRect()
        return Math.min(left, top, innerWidth - right, innerHeight - bottom) >= 0"""
    message = page.find(".toast-body.error")
    return sentence in message.text and page.until(lambda: page.driver.execute_script(inside, message))


def test_a_picture_without_a_face_is_said_on_the_page(application_page, tmp_path):
    page = application_page
    Image.new("RGB", (300, 400), (20, 40, 220)).save(tmp_path / "sea.png")
    page.upload("#face", tmp_path / "sea.png")
    page.write("#prompt", "una persona en la nieve")
    page.press("Generar")
    assert complains(page, say("faces.none", "es", width=300, height=400))
    page.keep("es-no-face")


def test_a_text_file_for_a_photo_is_said_on_the_page(application_page, tmp_path):
    page = application_page
    (tmp_path / "note.jpg").write_text("not a picture")
    page.upload("#face", tmp_path / "note.jpg")
    page.write("#prompt", "una persona en la nieve")
    page.press("Generar")
    assert complains(page, say("photo.unreadable", "es", name="note.jpg", size=13))
